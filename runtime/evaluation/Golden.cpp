//===- Golden.cpp - Comparison with reference logits ------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Safetensors.h"
#include "runtime/base/Format.h"
#include "runtime/evaluation/Evaluation.h"
#include "runtime/evaluation/HiddenStates.h"
#include "runtime/evaluation/LogitMath.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

namespace sluice {

namespace {

struct FloatTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

/// Reads float32 or int32/int64/uint8 tensors; nothing when the file has no such tensor.
template <typename Stored, typename Value>
std::vector<Value> decode(const std::vector<uint8_t> &bytes) {
  std::vector<Value> result(bytes.size() / sizeof(Stored));
  for (size_t i = 0; i < result.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    result[i] = Value(stored);
  }
  return result;
}

Result<std::optional<FloatTensor>> readFloats(const SafetensorsFile &file,
                                              const std::string &name) {
  const SafetensorsTensor *tensor = file.find(name);
  if (!tensor)
    return std::optional<FloatTensor>();
  if (tensor->dtype != DataType::kF32)
    return dataCorrupt(format("%s: tensor \"%s\" must be F32", file.path().c_str(), name.c_str()));
  SLUICE_ASSIGN_OR_RETURN(std::vector<uint8_t> bytes, file.read(*tensor));
  return std::optional(FloatTensor{tensor->shape, decode<float, float>(bytes)});
}

Result<std::vector<int32_t>> readIds(const SafetensorsFile &file, const SafetensorsTensor &tensor) {
  SLUICE_ASSIGN_OR_RETURN(std::vector<uint8_t> bytes, file.read(tensor));
  if (tensor.dtype == DataType::kI32)
    return decode<int32_t, int32_t>(bytes);
  if (tensor.dtype == DataType::kI64)
    return decode<int64_t, int32_t>(bytes);
  return dataCorrupt(
      format("%s: tensor \"%s\" must be I32 or I64", file.path().c_str(), tensor.name.c_str()));
}

/// Raises `error` to the largest difference of two spans of equal size. Written so that a NaN
/// counts as an infinite error.
void compare(std::span<const float> ours, std::span<const float> reference, double &error) {
  for (size_t i = 0; i < ours.size(); ++i) {
    double difference = std::abs(double(ours[i]) - double(reference[i]));
    error = std::max(error, std::isnan(difference) ? INFINITY : difference);
  }
}

/// Adds the comparison of one row of logits to `result`.
void compareRow(std::span<const float> ours, std::span<const float> reference,
                const GoldenTolerance &tolerance, GoldenReport::Case &result) {
  ++result.rows;
  compare(ours, reference, result.maxLogitError);
  auto [expected, margin] = argmaxAndMargin(reference);
  if (margin <= tolerance.margin)
    return;
  ++result.argmaxCompared;
  if (argmaxAndMargin(ours).first != expected)
    ++result.argmaxDiffers;
}

/// The tensors of one case and how they compare.
class CaseVerifier {
public:
  CaseVerifier(Engine &engine, const SafetensorsFile &file, std::string prefix,
               const GoldenTolerance &tolerance)
      : engine(engine), file(file), prefix(std::move(prefix)), tolerance(tolerance),
        hidden(engine.info()) {}
  ~CaseVerifier() {
    if (!hiddenReference.empty())
      (void)observeLaunches(engine, nullptr);
  }
  CaseVerifier(const CaseVerifier &) = delete;

  Result<GoldenReport::Case> run(const SafetensorsTensor &idsTensor) {
    result.name = prefix.empty() ? "" : prefix.substr(0, prefix.size() - 1);
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, readIds(file, idsTensor));
    int64_t batch = idsTensor.shape.size() == 2 ? idsTensor.shape[0] : 1;
    if (ids.empty() || batch < 1)
      return dataCorrupt(file.path() + ": tensor \"" + idsTensor.name + "\" is empty");
    int64_t length = int64_t(ids.size()) / batch, vocab = engine.info().vocabSize;
    SLUICE_ASSIGN_OR_RETURN(std::optional<FloatTensor> logits, readFloats(file, prefix + "logits"));
    SLUICE_ASSIGN_OR_RETURN(std::optional<FloatTensor> last,
                            readFloats(file, prefix + "last_logits"));
    SLUICE_ASSIGN_OR_RETURN(std::optional<FloatTensor> nll, readFloats(file, prefix + "nll"));
    SLUICE_RETURN_IF_ERROR(checkSize(logits, "logits", int64_t(ids.size()) * vocab));
    SLUICE_RETURN_IF_ERROR(checkSize(last, "last_logits", batch * vocab));
    SLUICE_RETURN_IF_ERROR(checkSize(nll, "nll", batch * (length - 1)));
    SLUICE_RETURN_IF_ERROR(prepareHidden(int64_t(ids.size())));
    for (int64_t b = 0; b < batch; ++b) {
      std::span<const int32_t> tokens = std::span(ids).subspan(size_t(b * length), size_t(length));
      auto sink = [&](int64_t first, std::span<const float> rows) {
        for (int64_t i = 0; i < int64_t(rows.size()) / vocab; ++i) {
          int64_t token = first + i;
          std::span<const float> ours = rows.subspan(size_t(i * vocab), size_t(vocab));
          if (logits)
            compareRow(ours, row(*logits, b * length + token, vocab), tolerance, result);
          if (last && token == length - 1)
            compareRow(ours, row(*last, b, vocab), tolerance, result);
          if (nll && token + 1 < length)
            compareNll(ours, tokens[size_t(token + 1)],
                       nll->values[size_t(b * (length - 1) + token)]);
        }
        compareHidden(b * length + first, int64_t(rows.size()) / vocab);
      };
      SLUICE_RETURN_IF_ERROR(forEachLogits(engine, tokens, sink));
      SLUICE_RETURN_IF_ERROR(hiddenStatus);
    }
    SLUICE_RETURN_IF_ERROR(compareGreedy());
    result.passed = result.maxLogitError <= tolerance.logit &&
                    result.maxNllError <= tolerance.logit && result.argmaxDiffers == 0 &&
                    result.greedyDiffers == 0;
    for (double error : result.maxHiddenErrors)
      result.passed &= error <= tolerance.logit;
    return result;
  }

private:
  static std::span<const float> row(const FloatTensor &tensor, int64_t index, int64_t width) {
    return std::span(tensor.values).subspan(size_t(index * width), size_t(width));
  }

  Status checkSize(const std::optional<FloatTensor> &tensor, const char *name, int64_t expected) {
    if (!tensor || int64_t(tensor->values.size()) == expected)
      return Status::ok();
    return invalidArgument(format("%s: tensor \"%s%s\" has %zu entries, expected %lld for this "
                                  "artifact; is it the reference of another model?",
                                  file.path().c_str(), prefix.c_str(), name, tensor->values.size(),
                                  (long long)expected));
  }

  void compareNll(std::span<const float> logits, int32_t next, float reference) {
    double error = std::abs(logSumExp(logits) - logits[size_t(next)] - reference);
    result.maxNllError = std::max(result.maxNllError, std::isnan(error) ? INFINITY : error);
  }

  /// Reads hidden.0, hidden.1, ... of `tokens` tokens and has the engine show its own, if the file
  /// holds any.
  Status prepareHidden(int64_t tokens) {
    // A lone sequence lives in the first data parallel group, and so do its hidden states.
    const EngineInfo &info = engine.info();
    if (!file.find(prefix + "hidden.0") || info.firstRank >= info.numRanks / info.dp)
      return Status::ok();
    for (size_t i = 0; i < hidden.count(); ++i) {
      std::string name = "hidden." + std::to_string(i);
      SLUICE_ASSIGN_OR_RETURN(std::optional<FloatTensor> state, readFloats(file, prefix + name));
      if (!state)
        return invalidArgument(format("%s: tensor \"%s%s\" is missing; the artifact has %zu hidden "
                                      "states; is it the reference of another model?",
                                      file.path().c_str(), prefix.c_str(), name.c_str(),
                                      hidden.count()));
      SLUICE_RETURN_IF_ERROR(checkSize(state, name.c_str(), tokens * engine.info().hiddenSize));
      hiddenReference.push_back(std::move(*state));
    }
    result.maxHiddenErrors.assign(hidden.count(), 0);
    return observeLaunches(engine, &hidden);
  }

  /// Compares the last step's hidden states, of `count` tokens whose first is `firstToken` of the
  /// file's.
  void compareHidden(int64_t firstToken, int64_t count) {
    const size_t width = size_t(engine.info().hiddenSize);
    for (size_t i = 0; i < hiddenReference.size(); ++i) {
      std::span<const float> ours = hidden.state(i);
      if (ours.size() != size_t(count) * width)
        hiddenStatus = unsupported(
            format("no launch of the plan shows hidden state %zu of %zu", i, hidden.count()));
      else
        compare(
            ours,
            std::span(hiddenReference[i].values).subspan(size_t(firstToken) * width, ours.size()),
            result.maxHiddenErrors[i]);
    }
    hidden.clear();
  }

  /// Greedy ids must agree up to the first step whose reference margin is narrow: there another
  /// order of summation may choose differently, and everything after depends on that choice.
  Status compareGreedy() {
    const SafetensorsTensor *idsTensor = file.find(prefix + "gen_ids");
    SLUICE_ASSIGN_OR_RETURN(std::optional<FloatTensor> margins,
                            readFloats(file, prefix + "gen_margin"));
    if (!idsTensor || !margins)
      return Status::ok();
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, readIds(file, *idsTensor));
    size_t steps = margins->values.size();
    if (ids.size() <= steps)
      return dataCorrupt(format("%s: \"%sgen_ids\" has %zu ids for %zu margins; the prompt is "
                                "missing",
                                file.path().c_str(), prefix.c_str(), ids.size(), steps));
    auto narrow = std::find_if(margins->values.begin(), margins->values.end(),
                               [&](float margin) { return margin < tolerance.margin; });
    result.greedyCompared = narrow - margins->values.begin();
    std::span<const int32_t> prompt = std::span(ids).first(ids.size() - steps);
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> ours,
                            greedyContinuation(engine, prompt, result.greedyCompared));
    for (int64_t i = 0; i < result.greedyCompared; ++i)
      result.greedyDiffers += ours[size_t(i)] != ids[prompt.size() + size_t(i)];
    return Status::ok();
  }

  Engine &engine;
  const SafetensorsFile &file;
  std::string prefix;
  GoldenTolerance tolerance;
  GoldenReport::Case result;
  HiddenStates hidden;                      ///< observes the engine while there is a reference
  std::vector<FloatTensor> hiddenReference; ///< empty when the file has none
  Status hiddenStatus;
};

} // namespace

Result<GoldenReport> verifyGolden(Engine &engine, const std::string &path,
                                  const GoldenTolerance &tolerance) {
  SLUICE_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(path));
  GoldenReport report;
  for (const SafetensorsTensor &tensor : file.tensors()) {
    std::string prefix;
    for (std::string_view leaf : {"input_ids", "prompt_ids"}) {
      if (tensor.name == leaf || tensor.name.ends_with("." + std::string(leaf))) {
        prefix = tensor.name.substr(0, tensor.name.size() - leaf.size());
        SLUICE_ASSIGN_OR_RETURN(GoldenReport::Case result,
                                CaseVerifier(engine, file, prefix, tolerance).run(tensor));
        report.passed &= result.passed;
        report.cases.push_back(std::move(result));
      }
    }
  }
  if (report.cases.empty())
    return dataCorrupt(path + ": holds no tensor \"input_ids\" or \"<case>.prompt_ids\"; it is no "
                              "reference file");
  return report;
}

} // namespace sluice
