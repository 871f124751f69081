//===- Engine.cpp - Load an artifact and run steps --------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A step has three parts. check() looks at every number of the request and changes nothing; fill()
// takes KV pages and writes the IO buffers; then the ranks run. Because check() comes first, a
// refused step leaves no trace, and because fill() writes only what check() has bounded, kernels
// never see an index out of range.
//
//===------------------------------------------------------------------------===//
#include "sluice/engine.h"

#include "runtime/artifact/Artifact.h"
#include "runtime/base/Format.h"
#include "runtime/executor/LaunchObserver.h"
#include "runtime/executor/RankExecutor.h"
#include "runtime/executor/SequenceTable.h"
#include "runtime/telemetry/ExpertCounters.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Counts of a checked step.
struct StepTotals {
  int tokens = 0, logitRows = 0, sampled = 0;
  bool decodeOnly = true;
};

class HostEngine final : public Engine {
public:
  HostEngine(Artifact opened, const LoadOptions &options)
      : artifact(std::move(opened)), options(options),
        sequences(limit(limits().max_seqs()), limit(limits().max_seq_len()),
                  limit(limits().page_size()), limit(limits().num_pages())),
        lastStep(limits().max_seqs()) {}

  Status start(Clock::time_point begin) {
    for (int i = 0; i < artifact.plan().ranks_size(); ++i) {
      SLUICE_ASSIGN_OR_RETURN(auto rank, RankExecutor::create(artifact, i, options.threads));
      ranks.push_back(std::move(rank));
    }
    experts = ExpertCounters(io().expertCounts.size());
    describe();
    engineInfo.loadSeconds = secondsSince(begin);
    return Status::ok();
  }

  const EngineInfo &info() const override { return engineInfo; }
  Result<SequenceId> createSequence() override { return sequences.create(); }
  void releaseSequence(SequenceId sequence) override { sequences.release(sequence); }
  int sequenceLength(SequenceId sequence) const override {
    int slot = sequences.slotOf(sequence);
    return slot < 0 ? -1 : sequences.length(slot);
  }
  int freePages() const override { return sequences.freePages(); }
  std::vector<uint64_t> expertCounts() const override { return experts.totals(); }
  int numMoeLayers() const override {
    return engineInfo.numExperts == 0
               ? 0
               : static_cast<int>(experts.totals().size()) / engineInfo.numExperts;
  }
  const EngineTelemetry &telemetry() const override { return counters; }
  Result<std::string> readArtifactFile(std::string_view path) const override {
    return artifact.readFile(path);
  }

  Status step(std::span<const StepEntry> entries, std::span<StepOutput> outputs) override;

  void observe(LaunchObserver *observer) {
    for (const auto &rank : ranks)
      rank->observe(observer);
  }

private:
  static int limit(uint32_t value) { return static_cast<int>(value); } // validated to fit
  const proto::Limits &limits() const { return artifact.plan().limits(); }
  StepIo &io() { return ranks[0]->io(); }

  void describe();
  Result<StepTotals> check(std::span<const StepEntry> entries, std::span<StepOutput> outputs);
  Status checkEntry(const StepEntry &entry, int slot) const;
  void fill(std::span<const StepEntry> entries, const StepTotals &totals);
  void collect(std::span<const StepEntry> entries, std::span<StepOutput> outputs);

  const Artifact artifact;
  const LoadOptions options;
  EngineInfo engineInfo;
  SequenceTable sequences;
  std::vector<uint64_t> lastStep; ///< per slot: number of the last step that named it
  uint64_t stepNumber = 0;
  std::vector<std::unique_ptr<RankExecutor>> ranks;
  ExpertCounters experts;
  EngineTelemetry counters;
};

void HostEngine::describe() {
  const proto::Model &model = artifact.plan().model();
  engineInfo.name = model.name();
  engineInfo.family = model.family();
  engineInfo.target = artifact.plan().target();
  engineInfo.vocabSize = limit(model.vocab_size());
  engineInfo.hiddenSize = limit(model.hidden_size());
  engineInfo.numLayers = limit(model.num_layers());
  engineInfo.numExperts = limit(model.num_experts());
  engineInfo.topK = limit(model.top_k());
  engineInfo.numRanks = artifact.plan().ranks_size();
  engineInfo.maxBatchTokens = limit(limits().max_batch_tokens());
  engineInfo.maxSeqs = limit(limits().max_seqs());
  engineInfo.maxSeqLen = limit(limits().max_seq_len());
  engineInfo.maxLogitRows = limit(limits().max_logit_rows());
  engineInfo.pageSize = limit(limits().page_size());
  engineInfo.numPages = limit(limits().num_pages());
  engineInfo.bosTokenId = model.bos_token_id();
  engineInfo.eosTokenIds.assign(model.eos_token_ids().begin(), model.eos_token_ids().end());
  engineInfo.totalParameters = model.total_parameters();
  engineInfo.activeParameters = model.active_parameters();
  for (const auto &rank : ranks) {
    engineInfo.weightBytes += rank->memory().weights;
    engineInfo.kvBytes += rank->memory().kv;
    engineInfo.arenaBytes += rank->memory().arena;
    engineInfo.ioBytes += rank->memory().io;
  }
}

//===------------------------------------------------------------------------===//
// A step
//===------------------------------------------------------------------------===//

Status HostEngine::checkEntry(const StepEntry &entry, int slot) const {
  if (entry.tokens.empty())
    return invalidArgument("has no tokens; a step appends at least one to every sequence it names");
  const auto count = static_cast<int64_t>(entry.tokens.size());
  const int64_t length = sequences.length(slot);
  if (length + count > engineInfo.maxSeqLen)
    return invalidArgument("sequence would have " + std::to_string(length + count) +
                           " tokens, but the plan allows " + std::to_string(engineInfo.maxSeqLen) +
                           "; shorten the prompt or compile with a larger --max-seq-len");
  for (int32_t token : entry.tokens)
    if (token < 0 || token >= engineInfo.vocabSize)
      return invalidArgument("token id " + std::to_string(token) + " is outside [0, " +
                             std::to_string(engineInfo.vocabSize - 1) +
                             "]; is this the model's own tokenizer?");
  if (entry.logitRows < 0 || entry.logitRows > count)
    return invalidArgument("logitRows is " + std::to_string(entry.logitRows) + ", outside [0, " +
                           std::to_string(count) + "], the number of its tokens");
  if (!entry.sample)
    return Status::ok();
  if (entry.logitRows == 0)
    return invalidArgument("sampling needs logitRows of at least 1");
  return checkSampling(entry.sampling);
}

Result<StepTotals> HostEngine::check(std::span<const StepEntry> entries,
                                     std::span<StepOutput> outputs) {
  if (entries.empty())
    return invalidArgument("the step has no entries");
  if (outputs.size() != entries.size())
    return invalidArgument("the step has " + std::to_string(entries.size()) + " entries, but " +
                           std::to_string(outputs.size()) + " outputs");
  ++stepNumber;
  StepTotals totals;
  int64_t tokens = 0, rows = 0, pages = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const StepEntry &entry = entries[i];
    auto context = [&] { return "entry " + std::to_string(i); };
    int slot = sequences.slotOf(entry.sequence);
    if (slot < 0)
      return invalidArgument(context() + ": sequence " + std::to_string(entry.sequence) +
                             " does not exist or was released");
    uint64_t &last = lastStep[static_cast<size_t>(slot)];
    if (last == stepNumber)
      return invalidArgument(context() + ": sequence " + std::to_string(entry.sequence) +
                             " appears twice in the step");
    last = stepNumber;
    if (Status status = checkEntry(entry, slot); !status.isOk())
      return status.withContext(context());
    tokens += static_cast<int64_t>(entry.tokens.size());
    rows += entry.logitRows;
    pages += sequences.pagesToGrow(slot, static_cast<int>(entry.tokens.size()));
    totals.sampled += entry.sample;
    totals.decodeOnly &= entry.tokens.size() == 1;
  }
  if (tokens > engineInfo.maxBatchTokens)
    return invalidArgument("the step has " + std::to_string(tokens) +
                           " tokens, but the plan allows " +
                           std::to_string(engineInfo.maxBatchTokens) +
                           "; split the prompt into chunks or compile with a larger "
                           "--max-batch-tokens");
  if (rows > engineInfo.maxLogitRows)
    return invalidArgument("the step asks for " + std::to_string(rows) +
                           " rows of logits, but the plan allows " +
                           std::to_string(engineInfo.maxLogitRows) + "; ask for fewer per step");
  if (pages > sequences.freePages())
    return resourceExhausted("the step needs " + std::to_string(pages) + " KV pages, but " +
                             std::to_string(sequences.freePages()) + " of " +
                             std::to_string(engineInfo.numPages) +
                             " are free; release a sequence first");
  totals.tokens = static_cast<int>(tokens);
  totals.logitRows = static_cast<int>(rows);
  return totals;
}

void HostEngine::fill(std::span<const StepEntry> entries, const StepTotals &totals) {
  StepIo &in = io();
  const size_t pagesPerSeq = in.pageTable.size() / in.kvLengths.size();
  *in.header = {};
  in.header->numTokens = totals.tokens;
  in.header->numSeqs = static_cast<int32_t>(entries.size());
  in.header->numLogitRows = totals.logitRows;

  size_t token = 0, row = 0;
  for (size_t seq = 0; seq < entries.size(); ++seq) {
    const StepEntry &entry = entries[seq];
    const int slot = sequences.slotOf(entry.sequence);
    const int before = sequences.length(slot);
    sequences.grow(slot, static_cast<int>(entry.tokens.size()));
    in.seqStarts[seq] = static_cast<int32_t>(token);
    in.kvLengths[seq] = sequences.length(slot);
    std::span<const int32_t> pages = sequences.pages(slot);
    std::copy(pages.begin(), pages.end(), in.pageTable.begin() + ptrdiff_t(seq * pagesPerSeq));
    for (size_t i = 0; i < entry.tokens.size(); ++i, ++token) {
      in.tokenIds[token] = entry.tokens[i];
      in.positions[token] = before + static_cast<int32_t>(i);
      in.tokenSeq[token] = static_cast<int32_t>(seq);
    }
    for (int i = entry.logitRows; i > 0; --i, ++row) {
      in.logitRows[row] = static_cast<int32_t>(token) - i;
      in.sampling[row] = {}; // greedy, for rows nobody draws from
    }
    if (entry.sample) {
      abi::SamplingRow &sampling = in.sampling[row - 1];
      sampling.temperature = entry.sampling.temperature;
      sampling.topP = entry.sampling.topP;
      sampling.topK = entry.sampling.topK;
      sampling.seed = entry.sampling.seed;
      sampling.counter = static_cast<uint64_t>(sequences.length(slot));
    }
  }
  in.seqStarts[entries.size()] = totals.tokens;
}

void HostEngine::collect(std::span<const StepEntry> entries, std::span<StepOutput> outputs) {
  const StepIo &out = io();
  const auto vocab = static_cast<size_t>(engineInfo.vocabSize);
  size_t row = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto rows = static_cast<size_t>(entries[i].logitRows);
    outputs[i].logits = out.logits.subspan(row * vocab, rows * vocab);
    row += rows;
    outputs[i].sampledId = entries[i].sample ? out.sampledIds[row - 1] : -1;
  }
}

Status HostEngine::step(std::span<const StepEntry> entries, std::span<StepOutput> outputs) {
  const Clock::time_point begin = Clock::now();
  SLUICE_ASSIGN_OR_RETURN(const StepTotals totals, check(entries, outputs));
  size_t bucket = 0;
  while (ranks[0]->bucketTokens(bucket) < totals.tokens)
    ++bucket;
  fill(entries, totals);
  for (const auto &rank : ranks)
    rank->run(bucket);
  collect(entries, outputs);

  counters.tokens += static_cast<uint64_t>(totals.tokens);
  counters.bucketTokens += static_cast<uint64_t>(ranks[0]->bucketTokens(bucket));
  counters.entries += entries.size();
  counters.logitRows += static_cast<uint64_t>(totals.logitRows);
  counters.sampledTokens += static_cast<uint64_t>(totals.sampled);
  counters.distinctExperts += experts.update(io().expertCounts);
  const double seconds = secondsSince(begin);
  counters.steps.record(seconds);
  if (totals.decodeOnly)
    counters.decodeSteps.record(seconds);
  return Status::ok();
}

/// Refuses what certainly does not fit: systems that overcommit would kill the process later.
Status checkMemory(const proto::Plan &plan) {
  uint64_t needed = 0;
  for (const proto::RankProgram &rank : plan.ranks())
    for (const proto::Slab &slab : rank.slabs())
      if (slab.kind() != proto::Slab::WEIGHTS)
        needed += slab.bytes(); // each is below 2^50 and ranks are few
  uint64_t physical = physicalMemoryBytes();
  if (physical != 0 && needed > physical)
    return resourceExhausted("the plan needs " + formatBinaryBytes(needed) +
                             " besides its weights, but this machine has " +
                             formatBinaryBytes(physical) +
                             "; compile with smaller --max-seqs, --max-seq-len or "
                             "--max-batch-tokens");
  return Status::ok();
}

} // namespace

std::span<const float> ObservedLaunch::floats(std::string_view name) const {
  for (const ObservedArg &arg : args)
    if (arg.name == name)
      return {reinterpret_cast<const float *>(arg.data.data()), arg.data.size() / sizeof(float)};
  return {};
}

Status observeLaunches(Engine &engine, LaunchObserver *observer) {
  auto *host = dynamic_cast<HostEngine *>(&engine);
  if (!host)
    return unsupported("this engine does not show what its launches compute");
  host->observe(observer);
  return Status::ok();
}

Status checkSampling(const SamplingOptions &s) {
  if (!(s.temperature >= 0) || !std::isfinite(s.temperature))
    return invalidArgument("temperature is " + std::to_string(s.temperature) +
                           "; it must be a finite number of at least 0");
  if (!(s.topP > 0 && s.topP <= 1))
    return invalidArgument("top-p is " + std::to_string(s.topP) + ", outside (0, 1]");
  if (s.topK < 0)
    return invalidArgument("top-k is " + std::to_string(s.topK) + "; it must be at least 0 (all)");
  return Status::ok();
}

Result<std::unique_ptr<Engine>> Engine::load(const std::string &path, const LoadOptions &options) {
  const Clock::time_point begin = Clock::now();
  if (options.device != "host")
    return unsupported("device \"" + options.device +
                       "\" is not available in this build; the choices are: host");
  if (options.threads < 0 || options.threads > 1024)
    return invalidArgument("threads is " + std::to_string(options.threads) +
                           ", outside [0, 1024]; 0 means one per hardware thread");
  SLUICE_ASSIGN_OR_RETURN(
      Artifact artifact,
      Artifact::open(path, {.verify = options.verify, .threads = unsigned(options.threads)}));
  if (artifact.plan().ranks_size() != 1)
    return unsupported("artifact " + path + " is a plan of " +
                       std::to_string(artifact.plan().ranks_size()) +
                       " ranks; this build drives one; compile with --ranks=1");
  SLUICE_RETURN_IF_ERROR(checkMemory(artifact.plan()).withContext("artifact " + path));
  auto engine = std::make_unique<HostEngine>(std::move(artifact), options);
  SLUICE_RETURN_IF_ERROR(engine->start(begin).withContext("artifact " + path));
  return std::unique_ptr<Engine>(std::move(engine));
}

} // namespace sluice
