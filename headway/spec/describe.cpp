// Rows, column widths, legend and totals.
// Not for: the words of a single layer (layer_words.cpp).
#include "headway/spec/describe.h"

#include <algorithm>

#include <fmt/format.h>

#include "headway/base/text_util.h"
#include "headway/spec/layer_words.h"
#include "headway/spec/spec_fields.h"
#include "headway/spec/spec_json.h"

namespace headway::spec {
namespace {

using Row = std::vector<std::string>;

// Characters as a terminal shows them: bytes that do not continue a UTF-8 sequence.
size_t shown_width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0u) != 0x80u;
  }));
}

std::string table(const std::vector<Row>& rows, size_t first_right_column) {
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], shown_width(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - shown_width(row[i]), ' ');
      const bool right = i == 0 || i >= first_right_column;
      line += (i > 0 ? "  " : "") + (right ? pad + row[i] : row[i] + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string state_text(const Cost& cost) {
  std::vector<std::string> parts;
  if (cost.state_bytes_per_token > 0)
    parts.push_back(format_bytes(cost.state_bytes_per_token) + "/token");
  if (cost.state_bytes_fixed > 0) parts.push_back(format_bytes(cost.state_bytes_fixed));
  return parts.empty() ? "none" : join(parts, " + ");
}

std::string flops_text(double flops) {
  constexpr std::array<std::string_view, 5> kUnits = {"", "K", "M", "G", "T"};
  size_t unit = 0;
  while (flops >= 1000.0 && unit + 1 < kUnits.size()) {
    flops /= 1000.0;
    ++unit;
  }
  return fmt::format("{:.3g} {}FLOP", flops, kUnits[unit]);
}

Row layer_row(const std::string& index, const std::string& kind, const LayerSpec& layer,
              const Cost& cost) {
  const LayerWords words = layer_words(layer);
  return {index,
          kind,
          layer.block,
          words.mixer,
          words.heads,
          words.head_dim,
          words.window,
          words.rope,
          words.gate,
          words.kv_source,
          words.mlp,
          words.norms,
          format_count(cost.parameters),
          state_text(cost),
          flops_text(cost.forward_flops())};
}

std::string legend(const ModelSpec& spec, const std::vector<std::string>& kinds) {
  std::vector<std::string> order;
  std::vector<std::pair<std::string, int64_t>> entries;  // block name, count
  for (size_t i = 0; i < kinds.size(); ++i) {
    const auto at = std::find(order.begin(), order.end(), kinds[i]);
    if (at == order.end()) {
      order.push_back(kinds[i]);
      entries.emplace_back(spec.layers[i].block, 1);
    } else {
      ++entries[static_cast<size_t>(at - order.begin())].second;
    }
  }
  std::vector<std::string> words;
  for (size_t i = 0; i < order.size(); ++i) {
    words.push_back(fmt::format("{} = {} ({} layer{})", order[i], entries[i].first,
                                entries[i].second, entries[i].second == 1 ? "" : "s"));
  }
  return join(words, ", ");
}

std::string model_lines(const ModelSpec& spec, const ModelCost& costs) {
  std::vector<std::string> extras;
  if (spec.embedding.scale != 1.0)
    extras.push_back("embedding scale " + format_double(spec.embedding.scale));
  if (spec.per_layer_embedding) {
    extras.push_back(fmt::format("per-layer embedding {} x {}", per_layer_count(spec),
                                 spec.per_layer_embedding->size));
  }
  if (spec.head.softcap) extras.push_back("logit soft cap " + format_double(*spec.head.softcap));
  if (spec.rope_per_layer) extras.push_back("rotary base per layer");
  if (spec.mtp) extras.push_back(fmt::format("{} tokens ahead (mtp)", spec.mtp->depths()));
  return fmt::format(
             "model   {} layers, hidden size {}, vocabulary {} ({} head), {} positions{}{}\n",
             spec.layers.size(), spec.hidden_size, format_count(spec.embedding.vocab_size),
             spec.head.tied ? "tied" : "untied", format_count(spec.max_positions),
             extras.empty() ? "" : ", ", join(extras, ", ")) +
         fmt::format("stack   {}\n        {}\n", stack_line(spec),
                     legend(spec, layer_kinds(spec))) +
         fmt::format("cost    at a context of {} tokens\n\n", format_count(costs.context));
}

std::string totals_lines(const ModelCost& costs) {
  const Cost& total = costs.total;
  std::string text;
  const Cost& decoder = costs.decoder;
  const int64_t mtp = total.parameters - decoder.parameters;
  text += fmt::format(
      "parameters  {} (embedding {}, layers {}, head {}{})\n", format_count(total.parameters),
      format_count(costs.embedding.parameters),
      format_count(decoder.parameters - costs.embedding.parameters - costs.head.parameters),
      format_count(costs.head.parameters), costs.mtp.empty() ? "" : ", mtp " + format_count(mtp));
  if (total.active_parameters != total.parameters) {
    text += fmt::format("active      {}\n", format_count(total.active_parameters));
  }
  text += fmt::format("forward     {} a token, {} of it attention\n",
                      flops_text(total.forward_flops()), flops_text(total.attention_flops));
  text += fmt::format("decode      {} for the next token\n", flops_text(decoder.decode_flops()));
  text += fmt::format("state       {} = {} for one sequence\n", state_text(decoder),
                      format_bytes(decoder.state_bytes(costs.context)));
  return text;
}

Json cost_json(const Cost& cost, int64_t context) {
  return Json{{"parameters", cost.parameters},
              {"active_parameters", cost.active_parameters},
              {"forward_flops_per_token", cost.forward_flops()},
              {"attention_flops_per_token", cost.attention_flops},
              {"decode_flops_per_token", cost.decode_flops()},
              {"state_bytes_per_token", cost.state_bytes_per_token},
              {"state_bytes_fixed", cost.state_bytes_fixed},
              {"state_bytes", cost.state_bytes(context)}};
}

}  // namespace

std::vector<std::string> layer_kinds(const ModelSpec& spec) {
  std::vector<size_t> first;  // index of the first layer of each kind
  std::vector<std::string> kinds;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    size_t kind = 0;
    while (kind < first.size() && !(spec.layers[first[kind]] == spec.layers[i])) ++kind;
    if (kind == first.size()) first.push_back(i);
    std::string name(1, static_cast<char>('A' + kind % 26));
    if (kind >= 26) name += std::to_string(kind / 26);
    kinds.push_back(std::move(name));
  }
  return kinds;
}

std::string stack_line(const ModelSpec& spec) {
  const std::vector<std::string> kinds = layer_kinds(spec);
  std::vector<std::string> runs;
  for (size_t begin = 0; begin < kinds.size();) {
    size_t end = begin;
    while (end < kinds.size() && kinds[end] == kinds[begin]) ++end;
    runs.push_back(end - begin == 1 ? kinds[begin]
                                    : fmt::format("{}x{}", kinds[begin], end - begin));
    begin = end;
  }
  return join(runs, " ");
}

std::string describe_text(const ModelSpec& spec, const CostOptions& options) {
  const ModelCost costs = cost(spec, options);
  const std::vector<std::string> kinds = layer_kinds(spec);
  std::vector<Row> rows = {{"layer", "kind", "block", "mixer", "heads", "head dim", "window",
                            "rope", "gate", "kv", "mlp", "norms", "parameters", "state",
                            "per token"}};
  constexpr size_t kFirstNumber = 12;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    rows.push_back(layer_row(std::to_string(i), kinds[i], spec.layers[i], costs.layers[i]));
  }
  for (size_t i = 0; i < costs.mtp.size(); ++i) {
    rows.push_back(
        layer_row("+" + std::to_string(i + 1), "mtp", spec.mtp->layers[i], costs.mtp[i]));
  }
  return model_lines(spec, costs) + table(rows, kFirstNumber) + "\n" + totals_lines(costs);
}

Json describe_json(const ModelSpec& spec, const CostOptions& options) {
  const ModelCost costs = cost(spec, options);
  const std::vector<std::string> kinds = layer_kinds(spec);
  Json layers = Json::array();
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    Json row = {{"index", i}, {"kind", kinds[i]}};
    row.update(layer_json(spec.layers[i]));
    row.update(cost_json(costs.layers[i], costs.context));
    layers.push_back(std::move(row));
  }
  Json mtp = Json::array();
  for (size_t i = 0; i < costs.mtp.size(); ++i) {
    Json row = {{"depth", i + 1}};
    row.update(layer_json(spec.mtp->layers[i]));
    row.update(cost_json(costs.mtp[i], costs.context));
    mtp.push_back(std::move(row));
  }
  return Json{{"hidden_size", spec.hidden_size},
              {"vocab_size", spec.embedding.vocab_size},
              {"num_layers", spec.layers.size()},
              {"tied", spec.head.tied},
              {"max_positions", spec.max_positions},
              {"stack", stack_line(spec)},
              {"context", costs.context},
              {"layers", std::move(layers)},
              {"mtp", std::move(mtp)},
              {"embedding", cost_json(costs.embedding, costs.context)},
              {"head", cost_json(costs.head, costs.context)},
              {"decoder", cost_json(costs.decoder, costs.context)},
              {"totals", cost_json(costs.total, costs.context)},
              {"spec", to_json(spec)}};
}

}  // namespace headway::spec
