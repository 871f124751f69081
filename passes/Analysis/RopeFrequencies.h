//===- RopeFrequencies.h - Rotation frequencies of every RoPE variant -*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Kernels rotate by position * frequency[i] and know nothing of scaling rules: the compiler turns a
// rule into a table of frequencies and one factor for cosines and sines. The rules are those of
// Hugging Face transformers (modeling_rope_utils.py), where checkpoints take their meaning from:
// linear (Chen 2023), dynamic NTK, YaRN (Peng 2023), Llama 3 and LongRoPE (Ding 2024).
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_PASSES_ANALYSIS_ROPEFREQUENCIES_H
#define SLUICE_PASSES_ANALYSIS_ROPEFREQUENCIES_H

#include "sluice/status.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace sluice {

/// A scaling rule with the checkpoint's own keys ("factor", "beta_fast", "long_factor", ...).
struct RopeScaling {
  std::string type = "default";          ///< the key rope_type
  std::map<std::string, double> numbers; ///< integers, floats, and booleans as 0 or 1
  std::map<std::string, std::vector<double>> lists;
};

struct RopeQuestion {
  int64_t dim = 0;         ///< rotated entries of a head, even, at least 2
  double base = 0;         ///< rope_theta
  int64_t maxPosition = 0; ///< max_position_embeddings
  int64_t maxSeqLen = 0;   ///< longest sequence the plan serves
  RopeScaling scaling;
};

struct RopeTables {
  /// One table of dim / 2 frequencies; two when sequences longer than switchLength use the second.
  std::vector<std::vector<float>> tables;
  int64_t switchLength = 0; ///< 0 with one table
  double magnitude = 1;     ///< multiplies cosines and sines
};

/// Computes in double precision and rounds once. Fails with kInvalidArgument when a key is missing
/// or out of range, and with kUnsupported for an unknown rule and for rules that would need other
/// frequencies at run time than one table switch gives. Pure.
Result<RopeTables> ropeFrequencies(const RopeQuestion &question);

} // namespace sluice

#endif // SLUICE_PASSES_ANALYSIS_ROPEFREQUENCIES_H
