//===- HostEngine.cpp - An engine of host ranks -----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A step has four parts. check() looks at every number of the request and changes nothing; layOut()
// takes KV pages and gives every entry its rows; each rank then fills its IO buffers and runs.
// Because check() comes first, a refused step leaves no trace, and because fill() writes only what
// check() has bounded, kernels never see an index out of range.
//
//===------------------------------------------------------------------------===//
#include "runtime/executor/HostEngine.h"

#include "runtime/artifact/PlanRecords.h"

#include <algorithm>

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

} // namespace

//===------------------------------------------------------------------------===//
// Load
//===------------------------------------------------------------------------===//

HostEngine::HostEngine(Artifact opened, Communicators local)
    : artifact(std::move(opened)), communicators(std::move(local)),
      sequences(limit(limits().max_seqs()), limit(limits().max_seq_len()),
                limit(limits().page_size()), limit(limits().num_pages()),
                limit(dpGroups(artifact.plan()))),
      ranks(communicators.size()), outcomes(communicators.size()), lastStep(limits().max_seqs()),
      groupTotals(dpGroups(artifact.plan())), groupRows(groupTotals.size()),
      entryRows(limits().max_seqs()) {}

Status HostEngine::start(int threadsPerRank, Clock::time_point begin) {
  auto created = RankTeam::create(static_cast<int>(ranks.size()));
  if (!created.isOk())
    return communicators[0]->agree(created.status(), "load", kLoadTimeout);
  team = std::move(*created);
  team->run([&](int local) {
    outcomes[size_t(local)] = startRank(static_cast<size_t>(local), threadsPerRank);
  });
  SLUICE_RETURN_IF_ERROR(outcomes[0]); // the same on all ranks
  experts = ExpertCounters(ranks[0]->io().expertCounts.size());
  describe();
  engineInfo.loadSeconds = secondsSince(begin);
  return Status::ok();
}

Status HostEngine::startRank(size_t local, int threads) {
  Communicator &communicator = *communicators[local];
  auto created = RankExecutor::create(artifact, communicator.rank(), threads);
  SLUICE_RETURN_IF_ERROR(communicator.agree(created.status(), "load", kLoadTimeout));
  ranks[local] = std::move(*created);
  return communicator.agree(ranks[local]->connect(communicator), "join groups of ranks");
}

int HostEngine::groupOfRank(size_t local) const {
  return ranks[local]->rankNumber() / (engineInfo.numRanks / engineInfo.dp);
}

void HostEngine::describe() {
  const proto::Plan &plan = artifact.plan();
  const proto::Model &model = plan.model();
  engineInfo.name = model.name();
  engineInfo.family = model.family();
  engineInfo.target = plan.target();
  engineInfo.vocabSize = limit(model.vocab_size());
  engineInfo.hiddenSize = limit(model.hidden_size());
  engineInfo.numLayers = limit(model.num_layers());
  engineInfo.numExperts = limit(model.num_experts());
  engineInfo.topK = limit(model.top_k());
  engineInfo.numRanks = plan.ranks_size();
  engineInfo.firstRank = ranks[0]->rankNumber();
  engineInfo.numLocalRanks = static_cast<int>(ranks.size());
  if (plan.has_parallelism()) {
    engineInfo.ep = limit(plan.parallelism().ep());
    engineInfo.tp = limit(plan.parallelism().tp());
    engineInfo.dp = limit(plan.parallelism().dp());
  }
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
// Questions
//===------------------------------------------------------------------------===//

int HostEngine::sequenceLength(SequenceId sequence) const {
  int slot = sequences.slotOf(sequence);
  return slot < 0 ? -1 : sequences.length(slot);
}

int HostEngine::groupOf(SequenceId sequence) const {
  int slot = sequences.slotOf(sequence);
  return slot < 0 ? -1 : sequences.groupOf(slot);
}

int HostEngine::freePages() const {
  int total = 0;
  for (int group = 0; group < sequences.numGroups(); ++group)
    total += sequences.freePages(group);
  return total;
}

int HostEngine::numMoeLayers() const {
  return engineInfo.numExperts == 0
             ? 0
             : static_cast<int>(experts.totals().size()) / engineInfo.numExperts;
}

RankMemory HostEngine::rankMemory(int rank) const {
  const int local = rank - engineInfo.firstRank;
  return local < 0 || local >= engineInfo.numLocalRanks ? RankMemory()
                                                        : ranks[size_t(local)]->memory();
}

Status HostEngine::agree(const Status &mine) {
  if (engineInfo.numLocalRanks == engineInfo.numRanks)
    return mine;
  return communicators[0]->agree(mine, "agree on an outcome");
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

Status HostEngine::check(std::span<const StepEntry> entries, std::span<StepOutput> outputs) {
  if (entries.empty())
    return invalidArgument("the step has no entries");
  if (outputs.size() != entries.size())
    return invalidArgument("the step has " + std::to_string(entries.size()) + " entries, but " +
                           std::to_string(outputs.size()) + " outputs");
  ++stepNumber;
  totals = {};
  std::fill(groupTotals.begin(), groupTotals.end(), Totals());
  sampled = 0;
  decodeOnly = true;
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
    const auto count = static_cast<int64_t>(entry.tokens.size());
    Totals &group = groupTotals[static_cast<size_t>(sequences.groupOf(slot))];
    for (Totals *sum : {&totals, &group}) {
      sum->tokens += count;
      sum->seqs += 1;
      sum->logitRows += entry.logitRows;
      sum->pages += sequences.pagesToGrow(slot, static_cast<int>(count));
    }
    sampled += entry.sample;
    decodeOnly &= count == 1;
  }
  return checkTotals();
}

Status HostEngine::checkTotals() const {
  if (totals.tokens > engineInfo.maxBatchTokens)
    return invalidArgument("the step has " + std::to_string(totals.tokens) +
                           " tokens, but the plan allows " +
                           std::to_string(engineInfo.maxBatchTokens) +
                           "; split the prompt into chunks or compile with a larger "
                           "--max-batch-tokens");
  if (totals.logitRows > engineInfo.maxLogitRows)
    return invalidArgument("the step asks for " + std::to_string(totals.logitRows) +
                           " rows of logits, but the plan allows " +
                           std::to_string(engineInfo.maxLogitRows) + "; ask for fewer per step");
  for (int group = 0; group < engineInfo.dp; ++group) {
    const int64_t pages = groupTotals[static_cast<size_t>(group)].pages;
    if (pages > sequences.freePages(group))
      return resourceExhausted("the step needs " + std::to_string(pages) + " KV pages" +
                               (engineInfo.dp > 1 ? " of group " + std::to_string(group) : "") +
                               ", but " + std::to_string(sequences.freePages(group)) + " of " +
                               std::to_string(engineInfo.numPages) +
                               " are free; release a sequence first");
  }
  return Status::ok();
}

void HostEngine::layOut(std::span<const StepEntry> entries) {
  int64_t row = 0;
  for (size_t group = 0; group < groupTotals.size(); ++group) {
    groupRows[group] = row;
    row += groupTotals[group].logitRows;
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    const int slot = sequences.slotOf(entries[i].sequence);
    int64_t &next = groupRows[static_cast<size_t>(sequences.groupOf(slot))];
    entryRows[i] = next;
    next += entries[i].logitRows;
    sequences.grow(slot, static_cast<int>(entries[i].tokens.size()));
  }
}

void HostEngine::fill(std::span<const StepEntry> entries, size_t local) {
  StepIo &in = ranks[local]->io();
  const int group = groupOfRank(local);
  const size_t pagesPerSeq = in.pageTable.size() / in.kvLengths.size();
  auto headerOf = [](const Totals &counts) {
    return abi::StepHeader{.numTokens = static_cast<int32_t>(counts.tokens),
                           .numSeqs = static_cast<int32_t>(counts.seqs),
                           .numLogitRows = static_cast<int32_t>(counts.logitRows)};
  };
  *in.header = headerOf(groupTotals[static_cast<size_t>(group)]);
  if (in.globalHeader)
    *in.globalHeader = headerOf(totals);
  for (size_t i = 0; i < in.groupTokens.size(); ++i) {
    in.groupTokens[i] = static_cast<int32_t>(groupTotals[i].tokens);
    in.groupLogitRows[i] = static_cast<int32_t>(groupTotals[i].logitRows);
  }

  size_t token = 0, seq = 0, row = 0; // of the group
  for (size_t i = 0; i < entries.size(); ++i) {
    const StepEntry &entry = entries[i];
    const int slot = sequences.slotOf(entry.sequence);
    const int length = sequences.length(slot);
    // How to draw from its rows is known to all ranks.
    abi::SamplingRow *sampling = in.sampling.data() + entryRows[i];
    std::fill_n(sampling, entry.logitRows, abi::SamplingRow()); // greedy: nobody draws from them
    if (entry.sample)
      sampling[entry.logitRows - 1] = {.temperature = entry.sampling.temperature,
                                       .topP = entry.sampling.topP,
                                       .topK = entry.sampling.topK,
                                       .seed = entry.sampling.seed,
                                       .counter = static_cast<uint64_t>(length)};
    if (sequences.groupOf(slot) != group)
      continue;
    in.seqStarts[seq] = static_cast<int32_t>(token);
    in.kvLengths[seq] = length;
    std::span<const int32_t> pages = sequences.pages(slot);
    std::copy(pages.begin(), pages.end(), in.pageTable.begin() + ptrdiff_t(seq * pagesPerSeq));
    const int32_t before = length - static_cast<int32_t>(entry.tokens.size());
    for (size_t j = 0; j < entry.tokens.size(); ++j, ++token) {
      in.tokenIds[token] = entry.tokens[j];
      in.positions[token] = before + static_cast<int32_t>(j);
      in.tokenSeq[token] = static_cast<int32_t>(seq);
    }
    for (int j = entry.logitRows; j > 0; --j, ++row)
      in.logitRows[row] = static_cast<int32_t>(token) - j;
    ++seq;
  }
  in.seqStarts[seq] = static_cast<int32_t>(token);
}

Status HostEngine::runRanks(std::span<const StepEntry> entries, size_t bucket) {
  team->run([&](int member) {
    const auto local = static_cast<size_t>(member);
    fill(entries, local);
    outcomes[local] = ranks[local]->run(bucket);
    if (!outcomes[local].isOk())
      communicators[local]->abort(outcomes[local]); // the others need not wait for the time-out
  });
  // A rank that was told of a failure knows less than the one that had it.
  const Status *worst = nullptr;
  for (const Status &outcome : outcomes)
    if (!outcome.isOk() && (!worst || (worst->code() == StatusCode::kAborted &&
                                       outcome.code() != StatusCode::kAborted)))
      worst = &outcome;
  return worst ? *worst : Status::ok();
}

void HostEngine::collect(std::span<const StepEntry> entries, std::span<StepOutput> outputs) {
  const StepIo &out = ranks[0]->io();
  const auto vocab = static_cast<size_t>(engineInfo.vocabSize);
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto row = static_cast<size_t>(entryRows[i]),
               rows = static_cast<size_t>(entries[i].logitRows);
    outputs[i].logits = out.logits.subspan(row * vocab, rows * vocab);
    outputs[i].sampledId = entries[i].sample ? out.sampledIds[row + rows - 1] : -1;
  }
}

Status HostEngine::step(std::span<const StepEntry> entries, std::span<StepOutput> outputs) {
  const Clock::time_point begin = Clock::now();
  if (!failure.isOk())
    return Status(StatusCode::kAborted,
                  "the engine is broken since an earlier step failed (" +
                      std::string(failure.message()) + "); load the artifact again",
                  failure.where());
  SLUICE_RETURN_IF_ERROR(check(entries, outputs));
  size_t bucket = 0;
  while (ranks[0]->bucketTokens(bucket) < totals.tokens)
    ++bucket;
  layOut(entries);
  failure = runRanks(entries, bucket);
  SLUICE_RETURN_IF_ERROR(failure);
  collect(entries, outputs);

  counters.tokens += static_cast<uint64_t>(totals.tokens);
  counters.bucketTokens += static_cast<uint64_t>(ranks[0]->bucketTokens(bucket));
  counters.entries += entries.size();
  counters.logitRows += static_cast<uint64_t>(totals.logitRows);
  counters.sampledTokens += static_cast<uint64_t>(sampled);
  counters.distinctExperts += experts.update(ranks[0]->io().expertCounts);
  const double seconds = secondsSince(begin);
  counters.steps.record(seconds);
  if (decodeOnly)
    counters.decodeSteps.record(seconds);
  return Status::ok();
}

} // namespace sluice
