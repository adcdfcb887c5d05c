// `headway doctor`: what this build is and what it will use on this machine.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <cstdio>

#include "cli/command.h"
#include "headway/base/version.h"
#include "headway/dist/transport.h"
#include "headway/ops/kernel_table.h"

namespace headway::cli {
namespace {

Json report() {
  Json kernels = Json::object();
  for (const ops::KernelList& list : ops::kernel_lists()) kernels[list.op] = list.kernels;
  return {{"version", std::string(version())},
          {"libtorch", TORCH_VERSION},
          {"threads", at::get_num_threads()},
          {"cpu_capability", at::get_cpu_capability()},
          {"cpu_targets", ops::supported_targets()},
          {"kernels", kernels},
          {"cuda", at::globalContext().hasCUDA()},
          {"mpi", dist::has_mpi()}};
}

std::string join(const Json& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : " ") + name.get<std::string>();
  return text;
}

void print_text(const Json& info) {
  std::printf(
      "headway     %s\nlibtorch    %s (%s)\nthreads     %d\ncpu targets %s\ncuda        %s\nmpi    "
      "     %s\n",
      info["version"].get<std::string>().c_str(), info["libtorch"].get<std::string>().c_str(),
      info["cpu_capability"].get<std::string>().c_str(), info["threads"].get<int>(),
      join(info["cpu_targets"]).c_str(), info["cuda"].get<bool>() ? "yes" : "no",
      info["mpi"].get<bool>() ? "yes" : "no");
  std::printf("kernels, first that fits runs (HEADWAY_KERNEL=op:kernel[@target] forces one):\n");
  for (const auto& [op, names] : info["kernels"].items())
    std::printf("  %-22s %s\n", op.c_str(), join(names).c_str());
}

}  // namespace

void add_doctor(CLI::App& app) {
  auto* command =
      app.add_subcommand("doctor", "Version, CPU targets, threads, kernels, libtorch, MPI, CUDA");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "Machine-readable output on stdout");
  command->callback([json] {
    const Json info = report();
    *json ? print_json(info) : print_text(info);
  });
}

}  // namespace headway::cli
