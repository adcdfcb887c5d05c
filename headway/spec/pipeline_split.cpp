// Counts and offsets of pipeline stages. Not for: layout strings (pipeline_layout.cpp).
#include "headway/spec/pipeline_split.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/error.h"
#include "headway/spec/pipeline_layout.h"

namespace headway::spec {
namespace {

bool has_layout(const BlockArguments& a) { return !a.pipeline_model_parallel_layout.is_null(); }

bool is_uneven(const BlockArguments& a) {
  return a.num_layers_in_first_pipeline_stage || a.num_layers_in_last_pipeline_stage;
}

bool accounts(const BlockArguments& a) {
  return a.account_for_embedding_in_pipeline_split || a.account_for_loss_in_pipeline_split;
}

/// Layers as the even split counts them: with embedding and loss when those are accounted for.
int64_t counted_layers(const BlockArguments& a) {
  return a.num_layers + (a.account_for_embedding_in_pipeline_split ? 1 : 0) +
         (a.account_for_loss_in_pipeline_split ? 1 : 0);
}

/// Ranks and layers between an uneven first and last rank.
struct Middle {
  int64_t layers;
  int64_t ranks;
  int64_t per_rank() const { return ranks > 0 ? layers / ranks : 0; }
};

Middle middle_of(const BlockArguments& a) {
  const auto& first = a.num_layers_in_first_pipeline_stage;
  const auto& last = a.num_layers_in_last_pipeline_stage;
  return {a.num_layers - first.value_or(0) - last.value_or(0),
          a.pipeline_model_parallel_size - (first ? 1 : 0) - (last ? 1 : 0)};
}

/// Layers of rank r over all of its virtual stages.
int64_t layers_of_rank(const BlockArguments& a, int64_t rank) {
  if (!is_uneven(a)) return counted_layers(a) / a.pipeline_model_parallel_size;
  if (rank == 0 && a.num_layers_in_first_pipeline_stage)
    return *a.num_layers_in_first_pipeline_stage;
  if (rank == a.pipeline_model_parallel_size - 1 && a.num_layers_in_last_pipeline_stage)
    return *a.num_layers_in_last_pipeline_stage;
  return middle_of(a).per_rank();
}

using OptionalLayout = std::optional<PipelineLayout>;

OptionalLayout layout_of(const BlockArguments& a) {
  if (!has_layout(a)) return std::nullopt;
  return parse_pipeline_layout(a.pipeline_model_parallel_layout);
}

/// Virtual stages per rank.
int64_t stages_of(const BlockArguments& a, const OptionalLayout& layout) {
  if (!layout) return a.virtual_pipeline_model_parallel_size.value_or(1);
  return std::max<int64_t>(
      1, static_cast<int64_t>(layout->stages.size()) / a.pipeline_model_parallel_size);
}

class Rules {
 public:
  Rules(const BlockArguments& a, const OptionalLayout& layout, const std::string& path,
        Problems& problems)
      : a_(a), layout_(layout), path_(path), problems_(problems) {}

  void check() {
    if (layout_) return check_layout(*layout_);
    const int64_t pp = a_.pipeline_model_parallel_size;
    if (a_.virtual_pipeline_model_parallel_size.value_or(1) > 1 && pp == 1) {
      problem("virtual_pipeline_model_parallel_size",
              fmt::format("virtual_pipeline_model_parallel_size = {}: needs "
                          "pipeline_model_parallel_size > 1 (= 1)",
                          *a_.virtual_pipeline_model_parallel_size));
    } else if (is_uneven(a_)) {
      check_uneven();
    } else {
      check_even();
    }
  }

 private:
  void problem(std::string_view field, const std::string& text) {
    problems_.add(join_path(path_, field), text);
  }

  void divides(std::string_view field, int64_t value, const std::string& what, int64_t divisor) {
    if (value % divisor == 0) return;
    problem(field,
            fmt::format("{} = {}: allowed a multiple of {} (= {})", field, value, what, divisor));
  }

  void check_layout(const PipelineLayout& layout) {
    if (is_uneven(a_) || accounts(a_)) {
      problem("pipeline_model_parallel_layout",
              "pipeline_model_parallel_layout: not allowed together with "
              "num_layers_in_first_pipeline_stage, num_layers_in_last_pipeline_stage, "
              "account_for_embedding_in_pipeline_split or account_for_loss_in_pipeline_split");
      return;
    }
    validate_layer_layout(
        layout, {a_.num_layers, a_.mtp_num_layers.value_or(0), a_.pipeline_model_parallel_size});
    const int64_t stages =
        static_cast<int64_t>(layout.stages.size()) / a_.pipeline_model_parallel_size;
    if (a_.virtual_pipeline_model_parallel_size.value_or(stages) != stages) {
      problem("virtual_pipeline_model_parallel_size",
              fmt::format("virtual_pipeline_model_parallel_size = {}: the layout has {} stages per "
                          "rank",
                          *a_.virtual_pipeline_model_parallel_size, stages));
    }
  }

  void check_even() {
    const int64_t pp = a_.pipeline_model_parallel_size;
    const int64_t counted = counted_layers(a_);
    if (counted % pp != 0) {
      problem("num_layers",
              fmt::format("num_layers = {} ({} with embedding and loss as accounted): allowed a "
                          "multiple of pipeline_model_parallel_size (= {})",
                          a_.num_layers, counted, pp));
      return;
    }
    const int64_t stages = a_.virtual_pipeline_model_parallel_size.value_or(1);
    if ((counted / pp) % stages != 0) {
      problem("num_layers",
              fmt::format("num_layers = {}, {} layers per pipeline rank: allowed a multiple of "
                          "virtual_pipeline_model_parallel_size (= {})",
                          a_.num_layers, counted / pp, stages));
      return;
    }
    if (a_.num_layers < counted && counted / pp / stages == 0) {
      problem("num_layers",
              fmt::format("num_layers = {}: not enough for {} stages", a_.num_layers, pp * stages));
    }
  }

  void check_uneven() {
    if (accounts(a_)) {
      problem("account_for_embedding_in_pipeline_split",
              "account_for_embedding_in_pipeline_split and account_for_loss_in_pipeline_split are "
              "not allowed with num_layers_in_first_pipeline_stage or "
              "num_layers_in_last_pipeline_stage");
      return;
    }
    const int64_t stages = a_.virtual_pipeline_model_parallel_size.value_or(1);
    const std::string what = "virtual_pipeline_model_parallel_size";
    if (const auto& first = a_.num_layers_in_first_pipeline_stage)
      divides("num_layers_in_first_pipeline_stage", *first, what, stages);
    if (const auto& last = a_.num_layers_in_last_pipeline_stage)
      divides("num_layers_in_last_pipeline_stage", *last, what, stages);
    check_middle(middle_of(a_), stages);
  }

  void check_middle(const Middle& middle, int64_t stages) {
    if (middle.ranks < 0 || middle.layers < 0 || (middle.layers > 0) != (middle.ranks > 0)) {
      problem("num_layers",
              fmt::format("num_layers = {}: {} layers are left for {} middle pipeline ranks",
                          a_.num_layers, middle.layers, middle.ranks));
    } else if (middle.ranks > 0 && middle.layers % middle.ranks != 0) {
      problem("num_layers",
              fmt::format("num_layers = {}: the {} middle layers must be a multiple of the {} "
                          "middle pipeline ranks",
                          a_.num_layers, middle.layers, middle.ranks));
    } else if (middle.per_rank() % stages != 0) {
      problem("num_layers",
              fmt::format("num_layers = {}: the {} layers of a middle pipeline rank must be a "
                          "multiple of virtual_pipeline_model_parallel_size (= {})",
                          a_.num_layers, middle.per_rank(), stages));
    }
  }

  const BlockArguments& a_;
  const OptionalLayout& layout_;
  const std::string& path_;
  Problems& problems_;
};

/// One stage of a checked split, whose layout is parsed once.
class Stage {
 public:
  /// Errors: ConfigError for a split that does not divide, and for a place outside of it.
  Stage(const BlockArguments& a, const PipelinePlace& place)
      : a_(a), layout_(layout_of(a)), stages_(stages_of(a, layout_)), rank_(place.pp_rank) {
    Problems problems;
    Rules(a, layout_, "", problems).check();
    problems.throw_if_any();
    const int64_t pp = a.pipeline_model_parallel_size;
    if (rank_ < 0 || rank_ >= pp) {
      throw ConfigError(fmt::format(
          "pp_rank = {}: allowed 0 to {} (pipeline_model_parallel_size = {})", rank_, pp - 1, pp));
    }
    if (stages_ > 1 && !place.vp_stage) {
      throw ConfigError(fmt::format(
          "vp_stage: missing; allowed 0 to {} (virtual_pipeline_model_parallel_size = {})",
          stages_ - 1, stages_));
    }
    stage_ = place.vp_stage.value_or(0);
    if (stage_ >= 0 && stage_ < stages_) return;
    throw ConfigError(
        fmt::format("vp_stage = {}: allowed 0 to {} (virtual_pipeline_model_parallel_size = {})",
                    stage_, stages_ - 1, stages_));
  }

  int64_t layers() const {
    const int64_t pp = a_.pipeline_model_parallel_size;
    if (layout_) return layout_->decoder_layers(stage_ * pp + rank_);
    int64_t layers = layers_of_rank(a_, rank_) / stages_;
    if (a_.account_for_embedding_in_pipeline_split && is_first()) --layers;
    const bool is_last = rank_ == pp - 1 && stage_ == stages_ - 1;
    if (a_.account_for_loss_in_pipeline_split && is_last) --layers;
    if (layers >= 0) return layers;
    throw ConfigError(fmt::format("num_layers = {}: a pipeline stage would hold {} layers",
                                  a_.num_layers, layers));
  }

  int64_t offset() const {
    const int64_t pp = a_.pipeline_model_parallel_size;
    if (layout_) return layout_->decoder_offset(stage_ * pp + rank_);
    int64_t offset = 0;
    for (int64_t rank = 0; rank < pp; ++rank) {
      const int64_t layers = layers_of_rank(a_, rank) / stages_;
      offset += layers * (rank < rank_ ? stage_ + 1 : stage_);
    }
    return a_.account_for_embedding_in_pipeline_split && !is_first() ? offset - 1 : offset;
  }

 private:
  bool is_first() const { return rank_ == 0 && stage_ == 0; }

  const BlockArguments& a_;
  OptionalLayout layout_;
  int64_t stages_;
  int64_t rank_;
  int64_t stage_ = 0;
};

}  // namespace

void check_pipeline(const BlockArguments& arguments, const std::string& path, Problems& problems) {
  const OptionalLayout layout = layout_of(arguments);
  Rules(arguments, layout, path, problems).check();
}

int64_t virtual_stages(const BlockArguments& a) { return stages_of(a, layout_of(a)); }

int64_t get_num_layers_to_build(const BlockArguments& a, const PipelinePlace& place) {
  return Stage(a, place).layers();
}

int64_t get_transformer_layer_offset(const BlockArguments& a, const PipelinePlace& place) {
  return Stage(a, place).offset();
}

std::vector<int64_t> stage_layers(const BlockArguments& arguments, const PipelinePlace& place) {
  const Stage stage(arguments, place);
  std::vector<int64_t> layers(stage.layers());
  for (size_t i = 0; i < layers.size(); ++i) layers[i] = stage.offset() + static_cast<int64_t>(i);
  return layers;
}

std::vector<PipelinePlace> pipeline_places(const BlockArguments& arguments) {
  const int64_t stages = virtual_stages(arguments);
  std::vector<PipelinePlace> places;
  for (int64_t stage = 0; stage < stages; ++stage) {
    for (int64_t rank = 0; rank < arguments.pipeline_model_parallel_size; ++rank) {
      PipelinePlace place{rank, std::nullopt};
      if (stages > 1 || arguments.virtual_pipeline_model_parallel_size) place.vp_stage = stage;
      places.push_back(place);
    }
  }
  return places;
}

}  // namespace headway::spec
