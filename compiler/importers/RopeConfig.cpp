//===- RopeConfig.cpp - Rotary embeddings in their old and new keys ---------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The scaling rules and their keys are those of Hugging Face transformers
// (src/transformers/modeling_rope_utils.py). The parameters go into the IR as they are; turning
// them into frequencies is the compiler's job later, so that every family and every phase sees the
// publisher's numbers.
//
//===----------------------------------------------------------------------===//
#include "compiler/importers/DecoderConfig.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace mlir;

namespace sluice {

namespace {
enum class ValueKind { Number, Integer, Bool, List };

struct RopeKey {
  StringLiteral name;
  ValueKind kind;
  bool required;
};

struct RopeType {
  StringLiteral name;
  ArrayRef<RopeKey> keys;
};
} // namespace

static constexpr RopeKey factorKeys[] = {{"factor", ValueKind::Number, true}};
static constexpr RopeKey yarnKeys[] = {
    {"factor", ValueKind::Number, true},
    {"original_max_position_embeddings", ValueKind::Integer, false},
    {"attention_factor", ValueKind::Number, false},
    {"beta_fast", ValueKind::Number, false},
    {"beta_slow", ValueKind::Number, false},
    {"mscale", ValueKind::Number, false},
    {"mscale_all_dim", ValueKind::Number, false},
    {"truncate", ValueKind::Bool, false}};
static constexpr RopeKey llama3Keys[] = {
    {"factor", ValueKind::Number, true},
    {"low_freq_factor", ValueKind::Number, true},
    {"high_freq_factor", ValueKind::Number, true},
    {"original_max_position_embeddings", ValueKind::Integer, true}};
static constexpr RopeKey longropeKeys[] = {
    {"short_factor", ValueKind::List, true},
    {"long_factor", ValueKind::List, true},
    {"factor", ValueKind::Number, false},
    {"attention_factor", ValueKind::Number, false},
    {"short_mscale", ValueKind::Number, false},
    {"long_mscale", ValueKind::Number, false},
    {"original_max_position_embeddings", ValueKind::Integer, true}};

static const RopeType ropeTypes[] = {{"default", {}},         {"linear", factorKeys},
                                     {"dynamic", factorKeys}, {"yarn", yarnKeys},
                                     {"llama3", llama3Keys},  {"longrope", longropeKeys}};

/// The name under rope_type, or "type" in configurations before 2024.
static std::string readType(ConfigReader &settings) {
  std::string type = settings.getStringOr("rope_type", "");
  std::string oldType = settings.getStringOr("type", "");
  if (!type.empty() && !oldType.empty() && type != oldType)
    settings.error("type", "\"" + oldType + "\" contradicts rope_type \"" + type + "\"");
  if (type.empty())
    type = oldType;
  return type.empty() ? "default" : type;
}

/// A positive number that may stand in the rope settings and beside them.
static double readEither(ConfigReader &config, ConfigReader *settings, std::string_view key,
                         double fallback) {
  bool inside = settings && settings->has(key), outside = config.has(key);
  if (settings)
    settings->ignore(key);
  config.ignore(key);
  double value = inside ? settings->getDouble(key) : outside ? config.getDouble(key) : fallback;
  if (inside && outside && config.getDouble(key) != value)
    config.error(key, "contradicts the value among the rope settings; remove one of them");
  if (!config.failed() && !(value > 0 && std::isfinite(value)))
    config.error(key, "expected a positive number");
  return value;
}

static Attribute readValue(ConfigReader &settings, const RopeKey &key, Builder &builder) {
  switch (key.kind) {
  case ValueKind::Number:
    return builder.getF64FloatAttr(settings.getDouble(key.name));
  case ValueKind::Integer:
    return builder.getI64IntegerAttr(settings.getSize(key.name));
  case ValueKind::Bool:
    return builder.getBoolAttr(settings.getBool(key.name));
  case ValueKind::List:
    return builder.getDenseF64ArrayAttr(settings.getDoubles(key.name));
  }
  llvm_unreachable("every kind is handled");
}

static DictionaryAttr readScaling(ConfigReader &config, ConfigReader &settings,
                                  const RopeType &type, int64_t dim, int64_t maxPosition,
                                  MLIRContext &context) {
  Builder builder(&context);
  SmallVector<NamedAttribute> entries;
  auto add = [&](StringRef name, Attribute value) {
    entries.push_back(builder.getNamedAttr(name, value));
  };
  add("rope_type", builder.getStringAttr(type.name));
  add("max_position_embeddings", builder.getI64IntegerAttr(maxPosition));
  for (const RopeKey &key : type.keys) {
    // Phi keeps this one beside the rope settings, or in both places.
    bool beside = key.name == "original_max_position_embeddings" && config.has(key.name);
    if (beside && settings.has(key.name) && config.getInt(key.name) != settings.getInt(key.name))
      config.error(key.name, "contradicts the value among the rope settings; remove one of them");
    ConfigReader &from = beside ? config : settings;
    if (!key.required && !from.has(key.name)) {
      from.ignore(key.name);
      continue;
    }
    Attribute value = readValue(from, key, builder);
    if (auto list = dyn_cast<DenseF64ArrayAttr>(value))
      if (!config.failed() && list.size() != dim / 2)
        settings.error(key.name, std::to_string(list.size()) + " factors, expected " +
                                     std::to_string(dim / 2) + ", one per rotated pair");
    add(key.name, value);
  }
  return builder.getDictionaryAttr(entries);
}

moe::RopeAttr readRope(ConfigReader &config, MLIRContext &context, int64_t headDim,
                       int64_t maxPosition, const RopeOptions &options) {
  std::optional<ConfigReader> settings = config.getObject("rope_parameters");
  if (std::optional<ConfigReader> scaling = config.getObject("rope_scaling")) {
    if (settings)
      config.error("rope_scaling",
                   "stands beside rope_parameters, which replaces it; remove one of them");
    settings = std::move(scaling);
  }
  ConfigReader *inner = settings ? &*settings : nullptr;
  if (options.theta == 0 && !(inner && inner->has("rope_theta")) && !config.has("rope_theta")) {
    (void)config.getDouble("rope_theta");
    return {};
  }
  double theta = readEither(config, inner, "rope_theta", options.theta);
  double part = readEither(config, inner, "partial_rotary_factor", options.partialFactor);
  std::string typeName = inner ? readType(*inner) : "default";
  const RopeType *type = llvm::find_if(
      ropeTypes, [&](const RopeType &row) { return row.name == StringRef(typeName); });
  if (type == std::end(ropeTypes)) {
    std::string known;
    for (const RopeType &row : ropeTypes)
      known += (known.empty() ? "" : ", ") + row.name.str();
    inner->error(inner->has("rope_type") ? "rope_type" : "type",
                 "RoPE type \"" + typeName + "\" is not supported; supported are " + known);
    inner->ignoreAll();
  }
  if (config.failed()) {
    // What is wrong has been said; the scaling rule's keys would only be called unknown.
    if (inner)
      inner->ignoreAll();
    return {};
  }
  int64_t dim = int64_t(double(headDim) * part);
  if (dim < 2 || dim > headDim || dim % 2 != 0) {
    config.error(config.has("head_dim") ? "head_dim" : "num_attention_heads",
                 "a rotation of " + std::to_string(dim) + " of the " + std::to_string(headDim) +
                     " entries of a head is not possible; expected an even number");
    return {};
  }
  DictionaryAttr scaling;
  if (!type->keys.empty())
    scaling = readScaling(config, *inner, *type, dim, maxPosition, context);
  if (config.failed())
    return {};
  return moe::RopeAttr::get(&context, dim, options.offset, options.interleaved,
                            Builder(&context).getF64FloatAttr(theta), scaling);
}

} // namespace sluice
