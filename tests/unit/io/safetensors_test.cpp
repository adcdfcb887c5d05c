// Well-formed safetensors files: what is written is read back, byte for byte, by the same rules.
// Not for: damaged files (safetensors_hostile_test.cpp).
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "headway/io/safetensors_file.h"
#include "headway/io/safetensors_writer.h"

#include "tests/support/io_files.h"

namespace headway::io {
namespace {

std::map<std::string, at::Tensor> samples() {
  using enum c10::ScalarType;
  std::map<std::string, at::Tensor> tensors;
  const auto base = at::arange(-6, 6, at::TensorOptions().dtype(Double)).reshape({3, 4});
  for (const auto type : {Float, Double, BFloat16, Half, Long, Int, Short, Char, Float8_e4m3fn,
                          Float8_e5m2, ComplexFloat}) {
    tensors[std::string("t.") + c10::toString(type)] = base.to(type);
  }
  tensors["bool"] = base > 0;
  tensors["u8"] = base.abs().to(Byte);
  tensors["u16"] = base.abs().to(UInt16);
  tensors["scalar"] = at::scalar_tensor(2.5, at::TensorOptions().dtype(Float));
  tensors["empty"] = at::empty({0, 7}, at::TensorOptions().dtype(Float));
  tensors["transposed"] = base.to(Float).t();
  return tensors;
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  const auto x = a.contiguous();
  const auto y = b.contiguous();
  return x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

TEST(Safetensors, EveryTypeComesBack) {
  const testing_support::TempFolder folder;
  const auto tensors = samples();
  write_safetensors(folder / "m.safetensors", tensors, {{"note", "x"}});
  const SafetensorsFile file(folder / "m.safetensors");
  EXPECT_EQ(file.header().entries.size(), tensors.size());
  EXPECT_EQ(file.header().metadata.at("format"), "pt");
  EXPECT_EQ(file.header().metadata.at("note"), "x");
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(same_bits(file.load(name), tensor)) << name;
    EXPECT_TRUE(same_bits(file.view(name), tensor)) << name;
  }
  EXPECT_EQ(file.find("absent"), nullptr);
  EXPECT_THROW(file.load("absent"), CheckpointError);
}

TEST(Safetensors, LoadCopiesAndViewAliases) {
  const testing_support::TempFolder folder;
  write_safetensors(folder / "m.safetensors", {{"w", at::ones({8})}});
  at::Tensor view;
  at::Tensor copy;
  {
    const SafetensorsFile file(folder / "m.safetensors");
    view = file.view("w");
    copy = file.load("w");
    EXPECT_EQ(view.const_data_ptr(), file.bytes("w").data());
    EXPECT_NE(copy.const_data_ptr(), file.bytes("w").data());
  }
  copy.fill_(3);
  EXPECT_EQ(view.sum().item<float>(), 8);  // the view keeps the map open
}

TEST(Safetensors, MisalignedDataIsCopied) {
  const testing_support::TempFolder folder;
  const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} )";
  for (int pad = 0; pad < 8; ++pad) {
    const std::string padded = header + std::string(pad, ' ');
    testing_support::write_text(
        folder / "m.safetensors",
        testing_support::little_endian(padded.size()) + padded + std::string("\0\0\x80\x3F", 4));
    const SafetensorsFile file(folder / "m.safetensors");
    EXPECT_EQ(file.load("w").item<float>(), 1.0f);
    EXPECT_EQ(file.view("w").item<float>(), 1.0f);
  }
}

TEST(Safetensors, SameTensorsSameBytes) {
  const testing_support::TempFolder folder;
  write_safetensors(folder / "a.safetensors", samples());
  write_safetensors(folder / "b.safetensors", samples());
  const std::string bytes = testing_support::read_bytes(folder / "a.safetensors");
  EXPECT_EQ(bytes, testing_support::read_bytes(folder / "b.safetensors"));
}

TEST(Safetensors, OrderAndAlignment) {
  const testing_support::TempFolder folder;
  write_safetensors(folder / "m.safetensors",
                    {{"b", at::ones({3})},
                     {"a", at::ones({1}, at::TensorOptions().dtype(c10::kHalf))},
                     {"c", at::ones({1}, at::TensorOptions().dtype(c10::kLong))},
                     {"a2", at::ones({1})}});
  const SafetensorsFile file(folder / "m.safetensors");
  std::string order;
  for (const TensorEntry& entry : file.header().entries) order += entry.info.name + " ";
  EXPECT_EQ(order, "c a2 b a ");
  EXPECT_EQ(file.header().data_start % 8, 0);
}

TEST(Safetensors, NamesAreEscaped) {
  const testing_support::TempFolder folder;
  const std::string name = "quote\" back\\ é 漢";
  write_safetensors(folder / "m.safetensors", {{name, at::ones({1})}});
  EXPECT_NE(SafetensorsFile(folder / "m.safetensors").find(name), nullptr);
}

TEST(Safetensors, NoTensorsAreLegal) {
  const testing_support::TempFolder folder;
  write_safetensors(folder / "m.safetensors", std::map<std::string, at::Tensor>{},
                    {{"rope", "{}"}});
  const SafetensorsFile file(folder / "m.safetensors");
  EXPECT_TRUE(file.header().entries.empty());
  EXPECT_EQ(file.header().metadata.at("rope"), "{}");
}

TEST(Safetensors, TensorThatIsNotAsAnnouncedIsABug) {
  const testing_support::TempFolder folder;
  const std::vector<TensorInfo> table = {{"w", Dtype::kF32, {2}}};
  EXPECT_THROW(write_safetensors(folder / "m.safetensors", table,
                                 [](const TensorInfo&) { return at::ones({3}); }),
               InternalError);
  EXPECT_FALSE(std::filesystem::exists(folder / "m.safetensors"));
  EXPECT_EQ(testing_support::count_temporary(folder.path()), 0);
}

}  // namespace
}  // namespace headway::io
