//===- KernelFamilies.cpp - Parameters of kernel families -------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Writing, reading and checking parameters. Three visitors over each family's field list do the
// generic work; checkRange() adds what one family demands of its own values, so that every later
// consumer (size computation, kernels) may rely on them: sizes are at least 1 and bounded, counts
// divide where they must, numbers are finite.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/KernelFamilies.h"

#include "runtime/quant/WeightFormat.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

namespace sluice::abi {
namespace {

constexpr int64_t kMaxSize = int64_t(1) << 30; ///< of one matrix dimension
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxTopK = 64;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;

/// In the order of FamilyParams' alternatives.
constexpr const char *kFamilyNames[] = {
    "embedding",          "norm",         "residual_norm", "residual",     "linear",
    "ffn_gate_up",        "qkv",          "attention",     "router",       "experts_gate_up",
    "experts_down",       "gather_rows",  "sample",        "latent_query", "latent_append",
    "absorbed_attention", "sigmoid_gate", "temperature",   "assign_slots", "round_rows"};
static_assert(std::size(kFamilyNames) == std::variant_size_v<FamilyParams>);

//===------------------------------------------------------------------------===//
// Visitors
//===------------------------------------------------------------------------===//

struct ParamWriter {
  Params out;
  void operator()(const char *name, int64_t &value) { out.emplace_back(name, value); }
  void operator()(const char *name, double &value) { out.emplace_back(name, value); }
  void operator()(const char *name, bool &value) { out.emplace_back(name, int64_t(value)); }
  void operator()(const char *name, std::string &value) { out.emplace_back(name, value); }
  template <typename Enum> void operator()(const char *name, Enum &value) {
    out.emplace_back(name, std::string(EnumNames<Enum>::values[int(value)]));
  }
};

const char *typeName(const ParamValue &value) {
  constexpr const char *names[] = {"an integer", "a number", "a string"};
  return names[value.index()];
}

/// Fills the fields from `params` and remembers the first error.
struct ParamReader {
  const Params &params;
  Status status;
  size_t fields = 0;

  explicit ParamReader(const Params &params) : params(params) {}

  template <typename T> const T *find(const char *name, const char *expected) {
    ++fields;
    if (!status.isOk())
      return nullptr;
    const ParamValue *found = nullptr;
    for (const auto &[key, value] : params) {
      if (key != name)
        continue;
      if (found) {
        status = invalidArgument("parameter \"" + key + "\" appears twice");
        return nullptr;
      }
      found = &value;
    }
    if (!found) {
      status = invalidArgument("parameter \"" + std::string(name) + "\" is missing");
      return nullptr;
    }
    const T *value = std::get_if<T>(found);
    if (!value)
      status = invalidArgument("parameter \"" + std::string(name) + "\" must be " + expected +
                               ", not " + typeName(*found));
    return value;
  }

  void operator()(const char *name, int64_t &out) {
    if (const auto *value = find<int64_t>(name, "an integer"))
      out = *value;
  }
  void operator()(const char *name, double &out) {
    const auto *value = find<double>(name, "a number");
    if (value && !std::isfinite(*value))
      status = invalidArgument("parameter \"" + std::string(name) + "\" is not finite");
    else if (value)
      out = *value;
  }
  void operator()(const char *name, bool &out) {
    const auto *value = find<int64_t>(name, "an integer");
    if (value && *value != 0 && *value != 1)
      status = invalidArgument("parameter \"" + std::string(name) + "\" is " +
                               std::to_string(*value) + "; it is a truth value, 0 or 1");
    else if (value)
      out = *value != 0;
  }
  void operator()(const char *name, std::string &out) {
    if (const auto *value = find<std::string>(name, "a string"))
      out = *value;
  }
  template <typename Enum> void operator()(const char *name, Enum &out) {
    const auto *value = find<std::string>(name, "a string");
    if (!value)
      return;
    std::string choices;
    int index = 0;
    for (const char *candidate : EnumNames<Enum>::values) {
      if (*value == candidate) {
        out = Enum(index);
        return;
      }
      choices += (index++ ? ", " : "") + std::string(candidate);
    }
    status = invalidArgument("parameter \"" + std::string(name) + "\" is \"" + *value +
                             "\"; it must be one of " + choices);
  }
};

/// Collects field names, to name a parameter that no field claims.
struct NameCollector {
  std::vector<std::string_view> names;
  template <typename T> void operator()(const char *name, T &) { names.push_back(name); }
};

//===------------------------------------------------------------------------===//
// Ranges
//===------------------------------------------------------------------------===//

/// Accumulates range checks; the first failure wins.
class Checker {
public:
  Checker &size(const char *name, int64_t value, int64_t limit = kMaxSize) {
    return range(name, value, 1, limit);
  }
  Checker &range(const char *name, int64_t value, int64_t low, int64_t high) {
    return require(value >= low && value <= high, [&] {
      return quote(name) + " is " + std::to_string(value) + ", outside [" + std::to_string(low) +
             ", " + std::to_string(high) + "]";
    });
  }
  Checker &notNegative(const char *name, double value) {
    return require(value >= 0, [&] {
      return quote(name) + " is " + std::to_string(value) + "; it must not be negative";
    });
  }
  Checker &divides(const char *name, int64_t divisor, const char *whole, int64_t value) {
    return require(divisor > 0 && value % divisor == 0, [&] {
      return quote(name) + " = " + std::to_string(divisor) + " does not divide " + quote(whole) +
             " = " + std::to_string(value);
    });
  }
  Checker &weights(const std::string &format) {
    return status(quant::parsePackable(format).status());
  }
  /// A row-major table, whose rows are looked up.
  Checker &table(const std::string &format) {
    auto parsed = quant::WeightFormat::parse(format);
    return status(parsed.isOk() ? quant::requireRowMajor(*parsed) : parsed.status());
  }
  Checker &cache(const std::string &type) {
    return require(type == "f32" || type == "bf16" || type == "f16", [&] {
      return quote("cache_type") + " is \"" + type + "\"; the cache holds f32, bf16 or f16";
    });
  }
  template <typename Message> Checker &require(bool holds, const Message &message) {
    return holds ? *this : status(invalidArgument(message()));
  }
  Checker &status(Status checked) {
    if (first.isOk())
      first = std::move(checked);
    return *this;
  }
  Status take() { return first; }

private:
  static std::string quote(const char *name) { return "parameter \"" + std::string(name) + "\""; }
  Status first;
};

void check(const EmbeddingParams &p, Checker &c) {
  c.size("vocab", p.vocab).size("hidden", p.hidden).table(p.format);
}

void check(const NormParams &p, Checker &c) {
  c.size("width", p.width).size("groups", p.groups).divides("groups", p.groups, "width", p.width);
  c.notNegative("eps", p.eps);
  c.require(p.kind != NormKind::kL2 || !p.bias,
            [] { return std::string("parameter \"bias\" is set, but an l2 norm has none"); });
}

void check(const ResidualNormParams &p, Checker &c) {
  c.size("width", p.width).notNegative("eps", p.eps);
  c.require(p.kind != NormKind::kL2, [] {
    return std::string("parameter \"kind\" is \"l2\"; residual_norm computes rms and layer");
  });
}

void check(const ResidualParams &p, Checker &c) { c.size("width", p.width); }

void check(const LinearParams &p, Checker &c) {
  c.size("n", p.n).size("k", p.k).weights(p.format).notNegative("softcap", p.softcap);
}

void check(const GatedActivation &p, Checker &c) { c.notNegative("limit", p.limit); }

void check(const FfnGateUpParams &p, Checker &c) {
  c.size("n", p.n).size("k", p.k).weights(p.format);
  check(p.act, c);
}

/// A rotation of `dim` even entries between `begin` and `end` of a head.
void check(const RopeParams &p, int64_t begin, int64_t end, Checker &c) {
  c.range("rope_dim", p.dim, 0, end - begin);
  c.require(p.dim % 2 == 0, [&] {
    return "parameter \"rope_dim\" = " + std::to_string(p.dim) + " is odd; pairs are rotated";
  });
  c.range("rope_offset", p.offset, p.dim > 0 ? begin : 0, end - p.dim);
  c.range("rope_tables", p.tables, 1, 2);
  c.range("rope_switch_length", p.switchLength, 0, INT32_MAX);
}

void check(const QkvParams &p, Checker &c) {
  c.size("k", p.k).size("q_heads", p.qHeads, kMaxHeads).size("kv_heads", p.kvHeads, kMaxHeads);
  c.size("head_dim", p.headDim, kMaxHeadDim).size("value_dim", p.valueDim, kMaxHeadDim);
  c.divides("kv_heads", p.kvHeads, "q_heads", p.qHeads).weights(p.format).cache(p.cacheType);
  c.notNegative("clip", p.clip).notNegative("eps", p.eps);
  check(p.rope, 0, p.headDim, c);
  c.notNegative("temp_floor", p.tempFloor);
}

void check(const AttentionParams &p, Checker &c) {
  c.size("q_heads", p.qHeads, kMaxHeads).size("kv_heads", p.kvHeads, kMaxHeads);
  c.size("head_dim", p.headDim, kMaxHeadDim).size("value_dim", p.valueDim, kMaxHeadDim);
  c.divides("kv_heads", p.kvHeads, "q_heads", p.qHeads).cache(p.cacheType);
  c.notNegative("softcap", p.softcap);
  c.range("window", p.window, 0, INT32_MAX).range("chunk", p.chunk, 0, INT32_MAX);
}

void check(const RouterParams &p, Checker &c) {
  c.size("hidden", p.hidden).size("experts", p.experts, kMaxExperts).weights(p.format);
  c.range("top_k", p.topK, 1, std::min(p.experts, kMaxTopK));
  c.notNegative("epsilon", p.epsilon).notNegative("jitter", p.jitter);
  c.size("groups", p.groups, p.experts).divides("groups", p.groups, "experts", p.experts);
  c.range("topk_group", p.topkGroup, 1, p.groups);
  c.require(p.groups == 1 || p.groupScore != GroupScore::kNone, [] {
    return std::string("parameter \"group_score\" is \"none\", but there are groups to rank");
  });
  c.require(p.groups == 1 || p.topK <= p.experts / std::max<int64_t>(p.groups, 1) * p.topkGroup,
            [&] {
              return "parameter \"top_k\" = " + std::to_string(p.topK) +
                     " exceeds the experts of the groups kept";
            });
  c.require(!p.sparseMixer || p.topK == 2, [&] {
    return "parameter \"top_k\" = " + std::to_string(p.topK) + "; the sparse mixer chooses 2";
  });
}

template <typename ExpertsParams> void checkExperts(const ExpertsParams &p, Checker &c) {
  // A rank may hold fewer experts than a token chooses.
  c.size("experts", p.experts, kMaxExperts).range("top_k", p.topK, 1, kMaxTopK);
  c.size("n", p.n).size("k", p.k).weights(p.format);
}

void check(const ExpertsGateUpParams &p, Checker &c) {
  checkExperts(p, c);
  check(p.act, c);
}

void check(const ExpertsDownParams &p, Checker &c) { checkExperts(p, c); }

void check(const GatherRowsParams &p, Checker &c) { c.size("width", p.width); }

void check(const SampleParams &p, Checker &c) { c.size("vocab", p.vocab); }

void check(const LatentQueryParams &p, Checker &c) {
  c.size("heads", p.heads, kMaxHeads).size("latent", p.latent, kMaxHeadDim);
  c.size("nope", p.nope, kMaxHeadDim).range("rotary", p.rotary, 0, kMaxHeadDim).weights(p.format);
  check(p.rope, p.nope, p.nope + p.rotary, c);
}

void check(const LatentAppendParams &p, Checker &c) {
  c.size("latent", p.latent, kMaxHeadDim).range("rotary", p.rotary, 0, kMaxHeadDim);
  c.cache(p.cacheType).notNegative("eps", p.eps);
  check(p.rope, 0, p.rotary, c);
}

void check(const AbsorbedAttentionParams &p, Checker &c) {
  c.size("heads", p.heads, kMaxHeads).size("latent", p.latent, kMaxHeadDim);
  c.range("rotary", p.rotary, 0, kMaxHeadDim).size("value_dim", p.valueDim, kMaxHeadDim);
  c.weights(p.format).cache(p.cacheType);
}

void check(const SigmoidGateParams &p, Checker &c) { c.size("width", p.width).size("k", p.k); }

void check(const TemperatureParams &p, Checker &c) {
  c.size("width", p.width).range("offset", p.offset, 0, INT32_MAX);
  c.require(p.floor > 0, [&] {
    return "parameter \"floor\" is " + std::to_string(p.floor) + "; it must be positive";
  });
}

void check(const AssignSlotsParams &p, Checker &c) {
  c.size("experts", p.experts, kMaxExperts)
      .range("top_k", p.topK, 1, std::min(p.experts, kMaxTopK));
  c.status(expertsOfGroups(p).status());
}

void check(const RoundRowsParams &p, Checker &c) {
  c.size("width", p.width);
  c.require(p.format == "f8e4m3:group128", [&] {
    return "parameter \"format\" is \"" + p.format +
           "\"; activations are rounded to f8e4m3:group128";
  });
}

template <typename Family> Result<FamilyParams> readFamily(const Params &params) {
  Family out;
  ParamReader reader(params);
  out.visit(reader);
  SLUICE_RETURN_IF_ERROR(reader.status);
  if (params.size() != reader.fields) {
    NameCollector known;
    out.visit(known);
    for (const auto &[name, value] : params) {
      bool claimed = false;
      for (std::string_view field : known.names)
        claimed |= field == name;
      if (!claimed)
        return invalidArgument("parameter \"" + name + "\" is not one of this family's");
    }
  }
  Checker checker;
  check(out, checker);
  SLUICE_RETURN_IF_ERROR(checker.take());
  return FamilyParams(std::move(out));
}

template <size_t... Index>
Result<FamilyParams> readByName(std::string_view family, const Params &params,
                                std::index_sequence<Index...>) {
  Result<FamilyParams> out =
      unsupported("kernel family \"" + std::string(family) +
                  "\" is not known; the artifact needs a newer runtime or is damaged");
  ((family == kFamilyNames[Index]
        ? void(out = readFamily<std::variant_alternative_t<Index, FamilyParams>>(params))
        : void()),
   ...);
  return out;
}

template <size_t... Index> std::vector<FamilyParams> defaultParams(std::index_sequence<Index...>) {
  return {std::variant_alternative_t<Index, FamilyParams>()...};
}

} // namespace

Result<std::vector<std::vector<int32_t>>> expertsOfGroups(const AssignSlotsParams &params) {
  std::vector<std::vector<int32_t>> groups(1);
  std::string_view text = params.slots;
  auto fail = [&](const std::string &why) {
    return invalidArgument("parameter \"slots\" " + why + "; it lists experts as in \"0,1,2;3,2\"");
  };
  if (params.experts < 1 || params.experts > kMaxExperts)
    return fail("cannot list " + std::to_string(params.experts) + " experts, outside [1, " +
                std::to_string(kMaxExperts) + "]");
  std::vector<int32_t> lastGroup(static_cast<size_t>(params.experts), -1);
  size_t total = 0;
  while (true) {
    int32_t expert = -1;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), expert);
    if (error != std::errc() || expert < 0 || expert >= params.experts)
      return fail("has no expert in [0, " + std::to_string(params.experts - 1) + "] at slot " +
                  std::to_string(total));
    int32_t &last = lastGroup[static_cast<size_t>(expert)];
    if (last == static_cast<int32_t>(groups.size()) - 1)
      return fail("gives group " + std::to_string(last) + " expert " + std::to_string(expert) +
                  " twice");
    last = static_cast<int32_t>(groups.size()) - 1;
    groups.back().push_back(expert);
    if (++total > kMaxSlots)
      return fail("has more than " + std::to_string(kMaxSlots) + " slots");
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (text.empty())
      break;
    if (text.front() != ',' && text.front() != ';')
      return fail("has \"" + std::string(text.substr(0, 1)) + "\" after slot " +
                  std::to_string(total - 1));
    if (text.front() == ';')
      groups.emplace_back();
    text.remove_prefix(1);
  }
  if (auto missing = std::find(lastGroup.begin(), lastGroup.end(), -1); missing != lastGroup.end())
    return fail("has no slot for expert " + std::to_string(missing - lastGroup.begin()));
  if (params.group < 0 || params.group >= static_cast<int64_t>(groups.size()))
    return invalidArgument("parameter \"group\" is " + std::to_string(params.group) +
                           ", outside [0, " + std::to_string(groups.size() - 1) + "]");
  return groups;
}

std::vector<FamilyParams> allFamilies() {
  return defaultParams(std::make_index_sequence<std::variant_size_v<FamilyParams>>());
}

const char *familyName(const FamilyParams &params) { return kFamilyNames[params.index()]; }

Params toParams(const FamilyParams &params) {
  ParamWriter writer;
  std::visit([&](auto family) { family.visit(writer); }, params);
  return std::move(writer.out);
}

Result<FamilyParams> fromParams(std::string_view family, const Params &params) {
  auto out =
      readByName(family, params, std::make_index_sequence<std::variant_size_v<FamilyParams>>());
  if (!out.isOk())
    return out.status().withContext("kernel family " + std::string(family));
  return out;
}

} // namespace sluice::abi
