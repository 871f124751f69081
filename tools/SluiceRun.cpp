//===- SluiceRun.cpp - Run an artifact from the command line ----------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Generates text, writes logits, scores a text or compares with a reference: one mode per call,
// all through the public engine, generator and evaluation interfaces. Started by mpirun, every
// process does the same for its rank; the first alone speaks and writes files, and what fails in
// one process ends all of them with the same exit code.
//
//===------------------------------------------------------------------------===//
#include "runtime/artifact/Safetensors.h"
#include "runtime/base/File.h"
#include "runtime/base/Format.h"
#include "runtime/collectives/mpi/MpiCommunicator.h"
#include "runtime/evaluation/Evaluation.h"
#include "sluice/engine.h"
#include "sluice/generator.h"
#include "sluice/telemetry.h"
#include "sluice/tokenizer.h"
#include "tools/support/Cli.h"

#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

using namespace sluice;

namespace {

struct RunOptions {
  std::string artifact, device = "host", collectives = "auto";
  double collectiveTimeout = 60;
  int threads = 0;
  bool first = true; ///< of the processes that a launcher started
  bool noVerify = false;
  std::string prompt, promptFile, tokenIds, logitsOut, verifyFile, scoreFile;
  int maxNewTokens = 64;
  bool ignoreEos = false, quiet = false;
  SamplingOptions sampling;
  int scoreWindow = 512;
  GoldenTolerance tolerance;
};

class Runner {
public:
  explicit Runner(const RunOptions &options) : options(options) {}

  Status run() {
    auto started = std::chrono::steady_clock::now();
    LoadOptions load;
    load.device = options.device;
    load.threads = options.threads;
    load.verify = !options.noVerify;
    load.collectives = options.collectives;
    load.collectiveTimeout = options.collectiveTimeout;
    SLUICE_ASSIGN_OR_RETURN(engine, Engine::load(options.artifact, load));
    loadSeconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    const Status outcome = runMode();
    // After a step that another rank broke there is nobody left to agree with.
    return settled || outcome.code() == StatusCode::kAborted ? outcome : agree(outcome);
  }

private:
  Status runMode() {
    if (!options.verifyFile.empty())
      return verify();
    if (!options.scoreFile.empty())
      return score();
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, together(inputIds()));
    return options.logitsOut.empty() ? generate(std::move(ids)) : writeLogits(ids);
  }

  /// The value, once every process has its own: a process must not start a step that another one
  /// will not come to. The outcome that run() agrees on is then the same everywhere.
  template <typename T> Result<T> together(Result<T> mine) {
    SLUICE_RETURN_IF_ERROR(agree(mine.status()));
    return mine;
  }

  Status agree(const Status &mine) {
    Status ours = engine->agree(mine);
    settled = !ours.isOk();
    return ours;
  }

  Status loadTokenizer() {
    if (tokenizer)
      return Status::ok();
    constexpr char file[] = "tokenizer.json";
    Result<std::string> json = engine->readArtifactFile(file);
    if (json.status().code() == StatusCode::kNotFound)
      return notFound(options.artifact + " holds no tokenizer; the checkpoint had no "
                                         "tokenizer.json: give --token-ids instead of text");
    SLUICE_RETURN_IF_ERROR(json.status());
    SLUICE_ASSIGN_OR_RETURN(Tokenizer loaded, Tokenizer::fromJson(*json, file));
    tokenizer = std::move(loaded);
    return Status::ok();
  }

  Result<std::vector<int32_t>> inputIds() {
    auto empty = [] {
      return invalidArgument("the prompt is empty; give at least one token of text with --prompt, "
                             "--prompt-file or --token-ids");
    };
    if (!options.tokenIds.empty())
      return parseIds(options.tokenIds);
    if (options.prompt.empty() && options.promptFile.empty())
      return empty();
    std::string text = options.prompt;
    if (!options.promptFile.empty()) {
      SLUICE_ASSIGN_OR_RETURN(text, readFile(options.promptFile));
    }
    SLUICE_RETURN_IF_ERROR(loadTokenizer());
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, tokenizer->encode(text));
    if (ids.empty())
      return empty();
    return ids;
  }

  static Result<std::vector<int32_t>> parseIds(const std::string &list) {
    std::vector<int32_t> ids;
    const char *at = list.data(), *end = at + list.size();
    while (at < end) {
      int32_t id = 0;
      auto [next, error] = std::from_chars(at, end, id);
      if (error != std::errc() || (next < end && *next != ','))
        return invalidArgument("--token-ids \"" + list +
                               "\": expected numbers separated by commas, "
                               "such as 1,2,3");
      ids.push_back(id);
      at = next + (next < end);
    }
    return ids;
  }

  Status generate(std::vector<int32_t> ids) {
    const EngineInfo &info = engine->info();
    // Text goes out as it comes; without a tokenizer the ids do.
    std::optional<StreamDecoder> decoder;
    if (options.tokenIds.empty())
      decoder.emplace(*tokenizer);
    GenerateRequest request;
    request.prompt = std::move(ids);
    request.maxNewTokens = options.maxNewTokens;
    request.sampling = options.sampling;
    if (!options.ignoreEos)
      request.stopIds = info.eosTokenIds;
    Status decodeError;
    bool first = true;
    request.onToken = [&](int32_t token) {
      if (!decoder) {
        std::printf(first ? "%d" : ",%d", token);
      } else if (Result<std::string> text = decoder->push(token); text.isOk()) {
        std::fwrite(text->data(), 1, text->size(), stdout);
      } else {
        decodeError = text.status();
        return false;
      }
      first = false;
      std::fflush(stdout);
      return true;
    };
    size_t promptTokens = request.prompt.size();
    Generator generator(*engine);
    SLUICE_ASSIGN_OR_RETURN(RequestId id, generator.submit(std::move(request)));
    SLUICE_RETURN_IF_ERROR(generator.run());
    SLUICE_RETURN_IF_ERROR(decodeError);
    if (decoder) {
      std::string rest = decoder->flush();
      std::fwrite(rest.data(), 1, rest.size(), stdout);
    }
    std::printf("\n");
    std::fflush(stdout);
    SLUICE_ASSIGN_OR_RETURN(GenerateResult result, generator.take(id));
    if (!options.quiet)
      printStatistics(promptTokens, result, generator.tokenLatency());
    return Status::ok();
  }

  void printStatistics(size_t promptTokens, const GenerateResult &result,
                       const LatencyHistogram &latency) const {
    std::fprintf(stderr, "\n%zu prompt tokens, %zu generated (%s)\n", promptTokens,
                 result.tokens.size(), finishName(result.reason));
    std::fprintf(stderr,
                 "load %.3f s, first token %.2f ms after the request (%.0f prompt tokens/s)\n",
                 loadSeconds, 1e3 * result.firstTokenSeconds,
                 double(promptTokens) / result.firstTokenSeconds);
    if (latency.count())
      std::fprintf(stderr, "%.1f tokens/s; per token p50 %.3f ms, p90 %.3f ms, p99 %.3f ms\n",
                   double(latency.count()) / latency.sum(), 1e3 * latency.p50(),
                   1e3 * latency.p90(), 1e3 * latency.p99());
  }

  static const char *finishName(FinishReason reason) {
    switch (reason) {
    case FinishReason::kStopToken:
      return "end of text";
    case FinishReason::kMaxTokens:
      return "--max-new-tokens reached";
    case FinishReason::kContextFull:
      return "the plan's max_seq_len reached";
    default:
      return "cancelled";
    }
  }

  Status writeLogits(const std::vector<int32_t> &ids) {
    // Written beside its final name and moved there whole: a reader never sees half a file.
    const std::string temporary = options.logitsOut + ".part";
    SafetensorsWriter writer;
    Status status =
        agree(options.first ? beginLogits(writer, temporary, ids.size()) : Status::ok());
    if (status.isOk()) {
      Status appended;
      status = forEachLogits(*engine, ids, [&](int64_t, std::span<const float> rows) {
        if (options.first && appended.isOk())
          appended = writer.append(
              "logits", {reinterpret_cast<const uint8_t *>(rows.data()), rows.size_bytes()});
      });
      if (status.isOk())
        status = appended;
    }
    if (!options.first)
      return status;
    if (status.isOk())
      status = writer.finish().status();
    std::error_code error;
    if (status.isOk()) {
      std::filesystem::rename(temporary, options.logitsOut, error);
      if (error)
        status = ioError("cannot rename " + temporary + " to " + options.logitsOut + ": " +
                         error.message());
    }
    if (!status.isOk())
      std::filesystem::remove(temporary, error);
    return status;
  }

  Status beginLogits(SafetensorsWriter &writer, const std::string &path, size_t tokens) const {
    SLUICE_RETURN_IF_ERROR(
        writer
            .declare("logits", DataType::kF32, {int64_t(tokens), int64_t(engine->info().vocabSize)})
            .status());
    std::error_code error;
    std::filesystem::remove(path, error);
    SLUICE_ASSIGN_OR_RETURN(OutputFile output, OutputFile::create(path));
    return writer.begin(std::move(output));
  }

  Result<std::vector<int32_t>> scoredIds() {
    SLUICE_RETURN_IF_ERROR(loadTokenizer());
    SLUICE_ASSIGN_OR_RETURN(std::string text, readFile(options.scoreFile));
    return tokenizer->encode(text, /*addSpecial=*/false);
  }

  Status score() {
    SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, together(scoredIds()));
    cli::Progress progress(!options.quiet);
    SLUICE_ASSIGN_OR_RETURN(
        Perplexity result,
        scorePerplexity(*engine, ids, options.scoreWindow, [&](int64_t done, int64_t total) {
          progress.update("scoring", uint64_t(done), uint64_t(total));
        }));
    progress.finish();
    std::printf("perplexity %.4f over %lld predictions (%lld windows of %d, %lld tokens)\n",
                result.perplexity, (long long)result.predictions, (long long)result.windows,
                options.scoreWindow, (long long)result.tokens);
    return Status::ok();
  }

  Status verify() {
    SLUICE_RETURN_IF_ERROR(agree(SafetensorsFile::open(options.verifyFile).status()));
    SLUICE_ASSIGN_OR_RETURN(GoldenReport report,
                            verifyGolden(*engine, options.verifyFile, options.tolerance));
    std::printf("%-12s %6s %14s %12s %18s %18s\n", "case", "rows", "max |dlogit|", "max |dnll|",
                "argmax differs", "greedy differs");
    for (const GoldenReport::Case &result : report.cases)
      std::printf("%-12s %6lld %14.3g %12.3g %10lld of %-5lld %10lld of %-5lld %s\n",
                  result.name.empty() ? "-" : result.name.c_str(), (long long)result.rows,
                  result.maxLogitError, result.maxNllError, (long long)result.argmaxDiffers,
                  (long long)result.argmaxCompared, (long long)result.greedyDiffers,
                  (long long)result.greedyCompared, result.passed ? "ok" : "FAILED");
    for (const GoldenReport::Case &result : report.cases)
      for (size_t i = 0; i < result.maxHiddenErrors.size(); ++i)
        std::printf("%-12s hidden state %zu: max |d| %.3g\n",
                    result.name.empty() ? "-" : result.name.c_str(), i, result.maxHiddenErrors[i]);
    if (!report.passed)
      return Status(StatusCode::kCheckFailed,
                    format("differs from %s by more than the tolerance (logit %g, margin %g)",
                           options.verifyFile.c_str(), options.tolerance.logit,
                           options.tolerance.margin));
    std::printf("agrees with %s\n", options.verifyFile.c_str());
    return Status::ok();
  }

  const RunOptions &options;
  std::unique_ptr<Engine> engine;
  std::optional<Tokenizer> tokenizer;
  double loadSeconds = 0;
  bool settled = false; ///< all processes have agreed on the error that ends the run
};

/// The exit code, once the process that speaks has had its say: mpirun ends all processes when one
/// fails, and a silent one that found the same mistake first would cut the message off.
int leave(int code, bool speaks) {
  if (code != 0 && !speaks)
    std::this_thread::sleep_for(std::chrono::seconds(1));
  return code;
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Runs an artifact: generates text, writes logits, scores a text, or compares with a "
               "reference.");
  cli::setUp(app, "sluice-run");
  RunOptions options;
  app.add_option("artifact", options.artifact, "artifact folder, NAME.sluice")->required();

  auto *input = app.add_option_group("Input", "exactly one of");
  input->add_option("--prompt", options.prompt, "text to continue");
  input->add_option("--prompt-file", options.promptFile, "file with the text to continue");
  input->add_option("--token-ids", options.tokenIds, "token ids to continue, 1,2,3");
  input->add_option("--score", options.scoreFile, "print the perplexity of this text file");
  input->add_option("--verify", options.verifyFile,
                    "compare with a reference (.safetensors); exit code 11 past the tolerance");
  input->require_option(1);

  auto *generation = app.add_option_group("Generation");
  generation->add_option("--max-new-tokens", options.maxNewTokens, "tokens to generate")
      ->check(CLI::PositiveNumber);
  generation->add_option("--temperature", options.sampling.temperature, "0 = greedy")
      ->check(CLI::NonNegativeNumber);
  generation->add_option("--top-k", options.sampling.topK, "most likely tokens kept, 0 = all")
      ->check(CLI::NonNegativeNumber);
  generation->add_option("--top-p", options.sampling.topP, "probability mass kept")
      ->check(CLI::Range(0.0, 1.0));
  generation->add_option("--seed", options.sampling.seed, "of the random numbers");
  generation->add_flag("--ignore-eos", options.ignoreEos, "go on after the end-of-text token");

  auto *output = app.add_option_group("Output and checks");
  output->add_option("--logits-out", options.logitsOut,
                     "write float32 logits [tokens, vocabulary] of the input to this file");
  output->add_option("--window", options.scoreWindow, "tokens per window of --score")
      ->check(CLI::PositiveNumber);
  output->add_option("--tolerance", options.tolerance.logit, "largest difference of --verify")
      ->check(CLI::NonNegativeNumber);
  output
      ->add_option("--margin", options.tolerance.margin,
                   "--verify compares choices whose margin exceeds this")
      ->check(CLI::NonNegativeNumber);
  output->add_flag("--quiet", options.quiet, "no statistics, no progress");

  auto *device = app.add_option_group("Device");
  device->add_option("--device", options.device, "backend: host");
  device->add_option("--threads", options.threads, "host threads of all ranks here, 0 = all")
      ->check(CLI::NonNegativeNumber);
  device
      ->add_option("--collectives", options.collectives,
                   "how ranks meet: local (threads), mpi (processes of mpirun), auto")
      ->check(CLI::IsMember({"auto", "local", "mpi"}));
  device
      ->add_option("--collective-timeout", options.collectiveTimeout,
                   "seconds that a rank waits for the others")
      ->check(CLI::PositiveNumber);
  device->add_flag("--no-verify-hashes", options.noVerify, "trust the files' content");

  const std::optional<MpiLaunch> launch = detectMpiLaunch();
  options.first = !launch || launch->rank == 0;
  if (!options.first && !std::freopen("/dev/null", "w", stdout))
    return cli::exitWith("sluice-run", ioError("cannot open /dev/null for writing"));
  if (int code = cli::parse(app, argc, argv, options.first); code >= 0)
    return leave(code, options.first);
  options.quiet |= !options.first;
  const Status status = Runner(options).run();
  return leave(options.first ? cli::exitWith("sluice-run", status) : int(status.code()),
               options.first);
}
