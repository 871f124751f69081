//===- QuantizeRules.h - What --quantize says ---------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// One grammar for the command line, the pass and reports: FORMAT[:SCOPE+SCOPE], several separated
// by commas. Names here are those that users know ("fp8-block"); runtime/quant/WeightFormat.h has
// the exact ones ("f8e4m3:block128x128"). Free of MLIR.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_QUANTIZE_QUANTIZERULES_H
#define SLUICE_PASSES_QUANTIZE_QUANTIZERULES_H

#include "sluice/status.h"

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// Which weights a rule is for; a set of bits.
enum QuantizeScope : unsigned {
  kScopeAttention = 1,
  kScopeFfn = 2,
  kScopeExperts = 4,
  kScopeShared = 8,
  kScopeAll = 15
};

struct QuantizeRule {
  std::string name;   ///< "fp8-block"
  std::string format; ///< "f8e4m3:block128x128"
  unsigned scopes = kScopeAll;
};

/// Parses FORMAT or FORMAT:SCOPE+SCOPE. kInvalidArgument names the unknown word and the known ones.
Result<QuantizeRule> parseQuantizeRule(std::string_view text);

/// A whole --quantize: the element type of what stays numbers, and rules, later ones first in rank.
struct QuantizeChoice {
  std::string numbers = "keep"; ///< keep, bf16, f16 or f32
  std::vector<std::string> rules;
};

/// Parses rules and at most one of keep, bf16, f16 and f32, separated by commas.
Result<QuantizeChoice> parseQuantizeChoice(std::string_view text);

/// Names of the quantised formats, for help texts.
std::vector<std::string> quantizeFormatNames();

} // namespace sluice

#endif // SLUICE_PASSES_QUANTIZE_QUANTIZERULES_H
