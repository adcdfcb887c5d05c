// Rules over several fields of a mixture of experts, for configs and specs alike.
// Not for: single-field ranges.
#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/config/part_checks.h"

namespace headway::config {
namespace {

class MoeChecker {
 public:
  MoeChecker(const MoeConfig& moe, const std::string& path, Problems& problems)
      : moe_(moe), path_(path), problems_(problems) {}

  void run() {
    check_experts();
    if (moe_.router.input_norm) {
      check_norm(*moe_.router.input_norm, join_path(path_, "router.input_norm"), problems_);
    }
    if (!touched("num_experts") && !touched("top_k")) check_choices();
    check_router();
  }

 private:
  bool touched(std::string_view field) const { return problems_.touches(join_path(path_, field)); }
  void bad(std::string_view field, const std::string& got, const std::string& allowed) {
    problems_.add_value(join_path(path_, field), got, allowed);
  }

  void check_experts() {
    if (moe_.limit && !moe_.gated) {
      bad("limit", format_double(*moe_.limit), "only with gated true");
    }
    if (moe_.limit_input && !moe_.limit) bad("limit_input", "true", "only with a limit");
    if (moe_.linear_offset != 0 && !moe_.gated) {
      bad("linear_offset", format_double(moe_.linear_offset), "only with gated true");
    }
    if (moe_.shared && moe_.shared->limit && !moe_.gated) {
      bad("shared.limit", format_double(*moe_.shared->limit), "only with gated true");
    }
    if (moe_.weight_input && moe_.top_k != 1) {
      bad("weight_input", "true", fmt::format("only with top_k 1 (top_k = {})", moe_.top_k));
    }
  }

  void check_choices() {
    const RouterConfig& router = moe_.router;
    if (moe_.top_k > moe_.num_experts) {
      return bad("top_k", std::to_string(moe_.top_k),
                 fmt::format("at most num_experts (= {})", moe_.num_experts));
    }
    if (touched("router")) return;
    if (moe_.num_experts % router.num_groups != 0) {
      return bad("router.num_groups", std::to_string(router.num_groups),
                 fmt::format("a divisor of num_experts (= {})", moe_.num_experts));
    }
    if (router.kept_groups > router.num_groups) {
      return bad("router.kept_groups", std::to_string(router.kept_groups),
                 fmt::format("at most num_groups (= {})", router.num_groups));
    }
    const int64_t members = moe_.num_experts / router.num_groups;
    if (moe_.top_k > members * router.kept_groups) {
      bad("top_k", std::to_string(moe_.top_k),
          fmt::format("at most the experts of the kept groups (= {} x {})", router.kept_groups,
                      members));
    }
    if (router.kept_groups == router.num_groups) return;
    if (moe_.top_k < router.kept_groups && !router.best_of_group) {
      bad("router.kept_groups", std::to_string(router.kept_groups),
          fmt::format("at most top_k (= {}), or set best_of_group", moe_.top_k));
    }
    if (moe_.best_of_group() > members) {
      bad("router.best_of_group", std::to_string(moe_.best_of_group()),
          fmt::format("at most the experts of a group (= {})", members));
    }
  }

  void check_router() {
    const RouterConfig& router = moe_.router;
    const RouterConfig preset;
    const bool softmax = router.score == RouterScore::kSoftmax;
    if (router.expert_bias && softmax) {
      bad("router.expert_bias", "true", "only with score sigmoid | sqrtsoftplus");
    }
    if (softmax && router.normalize && moe_.top_k == 1 && !router.expert_scale) {
      bad("router.normalize", "true",
          "false with score softmax and top_k 1: the only weight would be 1, without a gradient");
    }
    if (!router.expert_bias && router.bias_update_rate != preset.bias_update_rate) {
      bad("router.bias_update_rate", format_double(router.bias_update_rate),
          "only with expert_bias true");
    }
    if (router.balance_choices && router.losses.empty()) {
      bad("router.balance_choices", "true", "only with losses");
    }
    if (router.sinkhorn && (router.normalize || router.num_groups > 1 || router.expert_bias ||
                            !router.losses.empty())) {
      bad("router.sinkhorn", "true",
          "only with normalize false and without groups, expert_bias and losses");
    }
    if (router.num_groups == 1 && router.best_of_group) {
      bad("router.best_of_group", std::to_string(*router.best_of_group),
          "only with num_groups > 1");
    }
  }

  const MoeConfig& moe_;
  const std::string& path_;
  Problems& problems_;
};

}  // namespace

void check_moe(const MoeConfig& moe, const std::string& path, Problems& problems) {
  MoeChecker(moe, path, problems).run();
}

}  // namespace headway::config
