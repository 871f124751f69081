//===- QuantScheme.h - How a checkpoint says it is quantised ------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// quantization_config of config.json (or ModelOpt's file beside it) in one vocabulary: what the
// codes are, over what their scales are shared, and where they lie. Which modules are quantised is
// what the files hold, not what the configuration says, because its lists of exceptions are written
// in three dialects; they serve to find contradictions. Every key is understood or refused: a
// setting that is overlooked here gives wrong numbers later, not an error.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_IMPORTERS_QUANTSCHEME_H
#define SLUICE_COMPILER_IMPORTERS_QUANTSCHEME_H

#include "compiler/importers/checkpoint/Checkpoint.h"
#include "compiler/importers/checkpoint/ConfigReader.h"

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

/// How the weight of a module is stored. Tensors are named after the module.
enum class QuantStorage : uint8_t {
  kFloat8, ///< weight F8_E4M3 [N, K], weight_scale or weight_scale_inv
  kInt8,   ///< weight I8 [N, K], weight_scale
  kPacked, ///< weight_packed I32 [N, K * bits / 32], weight_scale, weight_zero_point, weight_shape
  kNvfp4, ///< F4 codes in U8 [N, K / 2], weight_scale F8_E4M3 [N, K / 16] and a scale of the tensor
  kMxfp4, ///< F4 codes in U8 [N, K / 2], powers of two in U8 [N, K / 32]
  kAwq,   ///< qweight I32 [K, N / 8], qzeros, scales [K / group, N]
  kGptq,  ///< qweight I32 [K / 8, N], qzeros, scales [K / group, N], g_idx
};

/// Modules that are stored alike.
struct QuantGroup {
  QuantStorage storage = QuantStorage::kFloat8;
  int bits = 8;
  /// Columns that share a scale; 0 = one scale per row or one for all, whichever the file has.
  int64_t groupColumns = 0;
  /// Rows that share it too; 0 = each row has its own.
  int64_t blockRows = 0;
  bool symmetric = true;
  bool modelOpt = false;            ///< kNvfp4: ModelOpt's names, the tensor's scale multiplies
  bool zerosMinusOne = false;       ///< kGptq: zeros are stored less one
  std::vector<std::string> targets; ///< names of modules, "re:" and a pattern, or classes of layers
};

/// What a checkpoint says about its quantisation.
struct QuantScheme {
  std::string method; ///< quant_method; empty when the checkpoint is not quantised
  std::vector<QuantGroup> groups;
  std::vector<std::string> excluded; ///< modules that are not quantised, as written
  /// Tensors that the files hold although no product needs them: pattern and what they are.
  std::vector<std::pair<std::string, std::string>> ignoredTensors;
  std::vector<std::string> notes; ///< settings that are left out without changing the weights

  bool isQuantized() const { return !method.empty(); }
  /// Experts that are stored in the layout of gpt-oss.
  bool isMxfp4() const { return method == "mxfp4"; }

  /// Whether the configuration says that `module` is not quantised: it, a module above it or the
  /// last part of its name is listed. A list may hold "*", or "re:" and a regular expression.
  bool excludes(std::string_view module) const;
  /// The group that `module` belongs to, among those with one of the storages; null when there is
  /// none or more than one.
  const QuantGroup *groupOf(std::string_view module, std::span<const QuantStorage> storages) const;

  /// Reads quantization_config, or hf_quant_config.json when there is none. Settings that would
  /// give other numbers are recorded as problems of `config`.
  static QuantScheme read(ConfigReader &config, const Checkpoint &checkpoint);
};

/// Whether `name` is `pattern`, in which '*' stands for any characters.
bool matchesGlob(llvm::StringRef pattern, llvm::StringRef name);

/// A row of the table of what can be read.
struct QuantFormatInfo {
  const char *method;  ///< quant_method
  const char *formats; ///< what of it is read
};
std::span<const QuantFormatInfo> allQuantFormats();

} // namespace sluice

#endif // SLUICE_COMPILER_IMPORTERS_QUANTSCHEME_H
