//===- QualityGate.h - What quantisation costs on held-out text --*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A format is good enough when the model still predicts well the text that its users care about,
// and only running it tells. Before an artifact is written with quantised weights, the model is
// compiled for one rank of the host without and with them, and both predict the same texts.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_TOOLS_SUPPORT_QUALITYGATE_H
#define SLUICE_TOOLS_SUPPORT_QUALITYGATE_H

#include "compiler/driver/Compile.h"

#include <string>
#include <string_view>
#include <vector>

namespace sluice::cli {

/// A text and by how much its perplexity may rise.
struct QualityGate {
  std::string file;
  double percent = 1;
};

/// Parses FILE or FILE:PERCENT. kInvalidArgument for a limit that is negative or no number.
Result<QualityGate> parseQualityGate(std::string_view text);

/// Compiles the model twice into a folder beside `options.output`, which is gone afterwards, and
/// scores every text in windows of at most 512 tokens. Returns the outcome as JSON for the report;
/// kCheckFailed names the first text past its limit with both perplexities. Needs the memory and
/// disk of the model without quantisation.
Result<std::string> checkQuality(const CompileOptions &options, const CompileHooks &hooks,
                                 const std::vector<QualityGate> &gates);

} // namespace sluice::cli

#endif // SLUICE_TOOLS_SUPPORT_QUALITYGATE_H
