//===- RopeFrequencies.cpp - Rotation frequencies of every RoPE variant -----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/RopeFrequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>

namespace sluice {
namespace {

class RopeRules {
public:
  explicit RopeRules(const RopeQuestion &question)
      : q(question), scaling(question.scaling), half(question.dim / 2) {}

  Result<RopeTables> compute() {
    if (q.dim < 2 || q.dim % 2 != 0 || !(q.base > 0) || !std::isfinite(q.base))
      return invalidArgument("rope with " + std::to_string(q.dim) +
                             " rotated entries; they must be even in number, and the base finite "
                             "and positive");
    for (const auto &[name, value] : scaling.numbers)
      if (!std::isfinite(value))
        return invalidArgument("rope scaling \"" + scaling.type + "\": \"" + name +
                               "\" is not finite");
    using Rule = Result<RopeTables> (RopeRules::*)();
    const std::pair<const char *, Rule> rules[] = {
        {"default", &RopeRules::plain},   {"linear", &RopeRules::linear},
        {"dynamic", &RopeRules::dynamic}, {"yarn", &RopeRules::yarn},
        {"llama3", &RopeRules::llama3},   {"longrope", &RopeRules::longrope}};
    std::string known;
    for (auto [name, rule] : rules) {
      if (scaling.type == name) {
        auto tables = (this->*rule)();
        if (!tables.isOk())
          return tables.status().withContext("rope scaling \"" + scaling.type + "\"");
        return tables;
      }
      known += (known.empty() ? "" : ", ") + std::string(name);
    }
    return unsupported("rope type \"" + scaling.type + "\" is not known; known are " + known);
  }

private:
  std::optional<double> find(const char *name) const {
    auto found = scaling.numbers.find(name);
    if (found == scaling.numbers.end())
      return std::nullopt;
    return found->second;
  }
  double findOr(const char *name, double otherwise) const { return find(name).value_or(otherwise); }
  /// A key that must be there and positive.
  Result<double> need(const char *name) const {
    std::optional<double> value = find(name);
    if (!value)
      return invalidArgument("key \"" + std::string(name) + "\" is missing");
    if (!(*value > 0))
      return invalidArgument("\"" + std::string(name) + "\" = " + std::to_string(*value) +
                             " must be positive");
    return *value;
  }

  /// base^(2i / dim)
  double wavePower(int64_t i) const { return std::pow(q.base, 2.0 * double(i) / double(q.dim)); }

  template <typename Frequency> std::vector<float> table(const Frequency &frequency) const {
    std::vector<float> out;
    for (int64_t i = 0; i < half; ++i)
      out.push_back(float(frequency(i)));
    return out;
  }
  template <typename Frequency> RopeTables single(const Frequency &f, double magnitude = 1) const {
    return RopeTables{{table(f)}, 0, magnitude};
  }

  Result<RopeTables> plain() {
    return single([&](int64_t i) { return 1 / wavePower(i); });
  }

  Result<RopeTables> linear() {
    SLUICE_ASSIGN_OR_RETURN(double factor, need("factor"));
    return single([&](int64_t i) { return 1 / (factor * wavePower(i)); });
  }

  /// Up to the trained length nothing is scaled; beyond it the base depends on the length of each
  /// sequence at each step, which a table cannot express.
  Result<RopeTables> dynamic() {
    SLUICE_RETURN_IF_ERROR(need("factor").status());
    int64_t trained = int64_t(findOr("original_max_position_embeddings", double(q.maxPosition)));
    if (q.maxSeqLen > trained)
      return unsupported("sequences of " + std::to_string(q.maxSeqLen) + " tokens exceed the " +
                         std::to_string(trained) +
                         " positions of training, beyond which frequencies change with every "
                         "token; lower max_seq_len to " +
                         std::to_string(trained));
    return plain();
  }

  Result<RopeTables> yarn() {
    double trained = findOr("original_max_position_embeddings", double(q.maxPosition));
    if (!(trained > 0))
      return invalidArgument("\"original_max_position_embeddings\" must be positive");
    double factor = findOr("factor", double(q.maxPosition) / trained);
    if (!(factor > 0))
      return invalidArgument("\"factor\" = " + std::to_string(factor) + " must be positive");
    auto mscaleOf = [](double scale, double mscale) {
      return scale <= 1 ? 1.0 : 0.1 * mscale * std::log(scale) + 1.0;
    };
    double mscale = findOr("mscale", 0), mscaleAll = findOr("mscale_all_dim", 0);
    double magnitude = mscale != 0 && mscaleAll != 0
                           ? mscaleOf(factor, mscale) / mscaleOf(factor, mscaleAll)
                           : mscaleOf(factor, 1);
    magnitude = findOr("attention_factor", magnitude);

    // The entries that turn betaFast times within the trained length stay, those that turn less
    // than betaSlow times are interpolated, with a ramp between.
    double betaFast = findOr("beta_fast", 32), betaSlow = findOr("beta_slow", 1);
    if (!(betaFast > 0) || !(betaSlow > 0) || q.base == 1)
      return invalidArgument("\"beta_fast\" and \"beta_slow\" must be positive and the base not 1");
    auto correctionDim = [&](double rotations) {
      return double(q.dim) * std::log(trained / (rotations * 2 * std::numbers::pi)) /
             (2 * std::log(q.base));
    };
    double low = correctionDim(betaFast), high = correctionDim(betaSlow);
    if (findOr("truncate", 1) != 0) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, double(q.dim - 1));
    if (low == high)
      high += 0.001;
    return single(
        [&](int64_t i) {
          double interpolated = std::clamp((double(i) - low) / (high - low), 0.0, 1.0);
          double extrapolation = 1 / wavePower(i);
          return extrapolation / factor * interpolated + extrapolation * (1 - interpolated);
        },
        magnitude);
  }

  Result<RopeTables> llama3() {
    SLUICE_ASSIGN_OR_RETURN(double factor, need("factor"));
    SLUICE_ASSIGN_OR_RETURN(double lowFactor, need("low_freq_factor"));
    SLUICE_ASSIGN_OR_RETURN(double highFactor, need("high_freq_factor"));
    SLUICE_ASSIGN_OR_RETURN(double trained, need("original_max_position_embeddings"));
    // Llama 4 Scout has equal factors: a step, without the ramp between the two wavelengths.
    if (!(highFactor >= lowFactor))
      return invalidArgument("\"high_freq_factor\" must not be less than \"low_freq_factor\"");
    return single([&](int64_t i) {
      double frequency = 1 / wavePower(i);
      double wavelength = 2 * std::numbers::pi / frequency;
      if (wavelength < trained / highFactor)
        return frequency;
      if (wavelength > trained / lowFactor || highFactor == lowFactor)
        return frequency / factor;
      double smooth = (trained / wavelength - lowFactor) / (highFactor - lowFactor);
      return (1 - smooth) * frequency / factor + smooth * frequency;
    });
  }

  Result<std::vector<double>> factors(const char *name) const {
    auto found = scaling.lists.find(name);
    if (found == scaling.lists.end())
      return invalidArgument("list \"" + std::string(name) + "\" is missing");
    if (int64_t(found->second.size()) != half)
      return invalidArgument("list \"" + std::string(name) + "\" has " +
                             std::to_string(found->second.size()) + " entries, not " +
                             std::to_string(half));
    for (double value : found->second)
      if (!(value > 0) || !std::isfinite(value))
        return invalidArgument("list \"" + std::string(name) +
                               "\" has an entry that is not a "
                               "positive number");
    return found->second;
  }

  /// Sequences longer than the trained length take the second table. Phi-3.5-MoE names the
  /// magnitude of either by itself; a plan has one, so they must agree wherever both are used.
  Result<RopeTables> longrope() {
    SLUICE_ASSIGN_OR_RETURN(std::vector<double> shortFactors, factors("short_factor"));
    SLUICE_ASSIGN_OR_RETURN(std::vector<double> longFactors, factors("long_factor"));
    double trained = findOr("original_max_position_embeddings", double(q.maxPosition));
    if (!(trained > 1))
      return invalidArgument("\"original_max_position_embeddings\" must exceed 1");
    bool onlyShort = double(q.maxSeqLen) <= trained;

    double factor = findOr("factor", double(q.maxPosition) / trained);
    double magnitude = factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(trained));
    magnitude = findOr("attention_factor", magnitude);
    double shortMagnitude = findOr("short_mscale", magnitude);
    double longMagnitude = findOr("long_mscale", magnitude);
    if (!onlyShort && shortMagnitude != longMagnitude)
      return unsupported("\"short_mscale\" = " + std::to_string(shortMagnitude) +
                         " differs from \"long_mscale\" = " + std::to_string(longMagnitude) +
                         "; lower max_seq_len to " + std::to_string(int64_t(trained)));

    auto scaled = [&](const std::vector<double> &by) {
      return table([&](int64_t i) { return 1 / (by[size_t(i)] * wavePower(i)); });
    };
    if (onlyShort)
      return RopeTables{{scaled(shortFactors)}, 0, shortMagnitude};
    return RopeTables{{scaled(shortFactors), scaled(longFactors)}, int64_t(trained), longMagnitude};
  }

  const RopeQuestion &q;
  const RopeScaling &scaling;
  const int64_t half;
};

} // namespace

Result<RopeTables> ropeFrequencies(const RopeQuestion &question) {
  return RopeRules(question).compute();
}

} // namespace sluice
