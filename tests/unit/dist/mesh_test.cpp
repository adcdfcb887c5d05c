// Axes of the mesh and what it refuses.
#include "headway/dist/mesh.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "headway/base/error.h"

namespace headway::dist {
namespace {

/// Stands for several processes that all hold the same values.
class TwinTransport : public Transport {
 public:
  explicit TwinTransport(int64_t size) : size_(size) {}
  std::string_view name() const override { return "twin"; }
  int64_t rank() const override { return size_ - 1; }
  int64_t size() const override { return size_; }
  void all_reduce_sum(at::Tensor& tensor) const override { tensor.mul_(size_); }
  void broadcast(at::Tensor& tensor, int64_t) const override { tensor.zero_(); }
  void barrier() const override {}

 private:
  int64_t size_;
};

MeshShape shape(Axis axis, int64_t size) {
  MeshShape result;
  result.sizes[static_cast<int>(axis)] = size;
  return result;
}

template <class E>
std::string message_of(const Transport& transport, const MeshShape& wanted) {
  try {
    const Mesh mesh(transport, wanted);
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

TEST(Mesh, SizeOneIsTheIdentity) {
  const TwinTransport one(1);
  const Mesh mesh(one);
  at::Tensor x = at::ones({3});
  mesh.all_reduce_sum(x, Axis::kData);
  mesh.broadcast(x, Axis::kTensor);
  EXPECT_TRUE(at::equal(x, at::ones({3})));
  EXPECT_TRUE(mesh.is_first());
}

TEST(Mesh, DataAxisTakesEveryProcess) {
  const TwinTransport four(4);
  const Mesh mesh(four);
  EXPECT_EQ(mesh.size(Axis::kData), 4);
  EXPECT_EQ(mesh.coordinate(Axis::kData), 3);
  EXPECT_EQ(mesh.coordinate(Axis::kTensor), 0);
  EXPECT_FALSE(mesh.is_first());
  at::Tensor x = at::ones({3});
  mesh.all_reduce_sum(x, Axis::kTensor);
  EXPECT_TRUE(at::equal(x, at::ones({3})));
  mesh.all_reduce_sum(x, Axis::kData);
  EXPECT_TRUE(at::equal(x, at::full({3}, 4.0f)));
}

TEST(Mesh, RefusesWhatItCannotBe) {
  const TwinTransport four(4);
  EXPECT_THAT(message_of<ConfigError>(four, shape(Axis::kData, 3)),
              testing::HasSubstr("number of processes (= 4)"));
  EXPECT_THAT(message_of<ConfigError>(four, shape(Axis::kData, 0)), testing::HasSubstr("dp = 0"));
  EXPECT_THAT(message_of<UnsupportedError>(four, shape(Axis::kTensor, 4)),
              testing::HasSubstr("tp = 4"));
}

TEST(World, IsOneProcessWithoutALauncher) {
  EXPECT_EQ(world().size(), 1);
  EXPECT_EQ(world().rank(), 0);
}

}  // namespace
}  // namespace headway::dist
