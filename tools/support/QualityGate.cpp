//===- QualityGate.cpp - What quantisation costs on held-out text ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "tools/support/QualityGate.h"

#include "passes/Quantize/QuantizeRules.h"
#include "runtime/base/File.h"
#include "runtime/base/Format.h"
#include "runtime/base/Json.h"
#include "runtime/evaluation/Evaluation.h"
#include "sluice/tokenizer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>

namespace sluice::cli {
namespace {

constexpr int64_t kWindow = 512;

/// A folder that is empty at first and does not outlive this object.
class ScratchFolder {
public:
  explicit ScratchFolder(std::string path) : path(std::move(path)) { remove(); }
  ~ScratchFolder() { remove(); }
  ScratchFolder(const ScratchFolder &) = delete;
  ScratchFolder &operator=(const ScratchFolder &) = delete;

  Status create() const {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    return error ? ioError("cannot create " + path + ": " + error.message()) : Status::ok();
  }
  std::string operator/(const char *name) const { return path + "/" + name; }

private:
  void remove() const {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

/// Perplexities of all texts under the model that `options` gives.
Result<std::vector<double>> scoreTexts(const CompileOptions &options, const CompileHooks &hooks,
                                       const std::vector<QualityGate> &gates,
                                       const std::string &stage) {
  SLUICE_RETURN_IF_ERROR(compileModel(options, hooks));
  SLUICE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::load(options.output));
  constexpr char file[] = "tokenizer.json";
  Result<std::string> json = engine->readArtifactFile(file);
  if (!json.isOk())
    return json.status().withContext("a quality gate needs the checkpoint's tokenizer.json");
  SLUICE_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::fromJson(*json, file));
  std::vector<double> result;
  for (const QualityGate &gate : gates) {
    SLUICE_ASSIGN_OR_RETURN(std::string text, readFile(gate.file));
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer.encode(text, /*addSpecial=*/false));
    auto score = scorePerplexity(*engine, ids, std::min<int64_t>(kWindow, engine->info().maxSeqLen),
                                 [&](int64_t done, int64_t total) {
                                   if (hooks.progress)
                                     hooks.progress("scoring " + gate.file + " " + stage,
                                                    uint64_t(done), uint64_t(total));
                                 });
    if (!score.isOk())
      return score.status().withContext("text \"" + gate.file + "\"");
    result.push_back(score->perplexity);
  }
  return result;
}

} // namespace

Result<QualityGate> parseQualityGate(std::string_view text) {
  QualityGate gate;
  size_t colon = text.rfind(':');
  gate.file = text.substr(0, colon);
  if (colon != std::string_view::npos) {
    std::string_view number = text.substr(colon + 1);
    auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), gate.percent);
    if (error != std::errc() || end != number.data() + number.size() ||
        !std::isfinite(gate.percent) || gate.percent < 0)
      return invalidArgument("quality gate \"" + std::string(text) + "\": \"" +
                             std::string(number) + "\" is no percentage of at least 0");
  }
  if (gate.file.empty())
    return invalidArgument("quality gate \"" + std::string(text) + "\" names no text");
  return gate;
}

Result<std::string> checkQuality(const CompileOptions &options, const CompileHooks &hooks,
                                 const std::vector<QualityGate> &gates) {
  for (const QualityGate &gate : gates)
    if (!std::filesystem::is_regular_file(gate.file))
      return notFound("quality gate: there is no text \"" + gate.file + "\"");
  if (options.output.empty() || options.compileTo != "artifact")
    return invalidArgument("a quality gate needs an artifact to guard; give -o NAME.sluice, and no "
                           "--compile-to");
  SLUICE_ASSIGN_OR_RETURN(QuantizeChoice choice, parseQuantizeChoice(options.quantize));
  if (choice.rules.empty() && choice.numbers == "keep" && options.activations == "f32")
    return invalidArgument("a quality gate compares with the model as it is, but nothing changes "
                           "it; give --quantize or --activations");
  ScratchFolder scratch(options.output + ".quality-gate");
  SLUICE_RETURN_IF_ERROR(scratch.create());
  // Formats change the numbers, shapes of plans do not: one rank of the host is enough.
  CompileOptions after = options;
  after.target = "host";
  after.ranks = 1, after.tp = 0, after.ep = 0, after.dp = 1;
  after.report.clear(), after.dumpPhasesTo.clear();
  after.output = scratch / "after.sluice";
  CompileOptions before = after;
  before.quantize = "keep", before.activations = "f32", before.quantizeExclude.clear();
  before.output = scratch / "before.sluice";
  CompileHooks quiet;
  quiet.progress = hooks.progress;
  SLUICE_ASSIGN_OR_RETURN(std::vector<double> whole, scoreTexts(before, quiet, gates, "before"));
  SLUICE_ASSIGN_OR_RETURN(std::vector<double> rounded, scoreTexts(after, hooks, gates, "after"));

  json::Value texts = json::Value::array();
  for (size_t i = 0; i < gates.size(); ++i) {
    double increase = (rounded[i] / whole[i] - 1) * 100;
    // Written so that a perplexity that is no number fails.
    if (!(increase <= gates[i].percent))
      return Status(StatusCode::kCheckFailed,
                    format("quality gate: perplexity of \"%s\" is %.4f, %.2f %% above the %.4f of "
                           "the model as it is; the limit is %g %%: exclude weights "
                           "(--quantize-exclude), choose a finer format or raise the limit",
                           gates[i].file.c_str(), rounded[i], increase, whole[i],
                           gates[i].percent));
    json::Value text;
    text.set("file", json::Value(gates[i].file));
    text.set("perplexity_before", json::Value(whole[i]));
    text.set("perplexity_after", json::Value(rounded[i]));
    text.set("increase_percent", json::Value(increase));
    text.set("limit_percent", json::Value(gates[i].percent));
    texts.push(std::move(text));
  }
  json::Value result;
  result.set("quantize", json::Value(options.quantize));
  result.set("activations", json::Value(options.activations));
  result.set("texts", std::move(texts));
  return result.dump();
}

} // namespace sluice::cli
