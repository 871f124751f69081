//===- Generator.cpp - Serve many requests with one engine ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Running requests stand in order of admission, and so do their parts of a batch: first one token
// of each that generates, then prompt chunks until the batch is full. A request that finds no room
// in this batch is first in line in the next ones, as those before it finish.
//
//===------------------------------------------------------------------------===//
#include "sluice/generator.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <string>

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double secondsBetween(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

struct Running {
  RequestId id = 0;
  GenerateRequest request;
  GenerateResult result;
  SequenceId sequence = -1;
  size_t prefilled = 0;  ///< tokens of the prompt that are in the cache
  int reservedPages = 0; ///< pages its longest outcome takes
  Clock::time_point submitted, lastToken;

  bool generating() const { return prefilled == request.prompt.size(); }
  bool finished() const { return result.reason != FinishReason::kNone; }
};

} // namespace

struct Generator::State {
  explicit State(Engine &engine) : engine(engine), info(engine.info()) {}

  Engine &engine;
  const EngineInfo &info;
  RequestId nextId = 1;
  std::deque<Running> queue;
  std::vector<Running> running; ///< in order of admission
  std::map<RequestId, GenerateResult> done;
  LatencyHistogram firstToken, betweenTokens;

  // Of the step in preparation; kept to reuse their memory.
  std::vector<StepEntry> entries;
  std::vector<StepOutput> outputs;
  std::vector<size_t> owners; ///< index into running, per entry

  int pagesOf(size_t tokens) const {
    auto size = static_cast<size_t>(info.pageSize);
    return static_cast<int>((tokens + size - 1) / size);
  }

  /// Tokens in the cache when the request has run as long as it can; the last one drawn is never
  /// fed back.
  size_t longest(const GenerateRequest &request) const {
    return std::min(request.prompt.size() + static_cast<size_t>(request.maxNewTokens) - 1,
                    static_cast<size_t>(info.maxSeqLen));
  }

  /// Free pages of a data parallel group that no admitted request counts on.
  int unreservedPages(int group) const {
    int free = engine.freePagesOf(group);
    for (const Running &r : running)
      if (engine.groupOf(r.sequence) == group)
        free -= r.reservedPages - pagesOf(static_cast<size_t>(engine.sequenceLength(r.sequence)));
    return free;
  }

  Status admit();
  void plan();
  void advance(Running &r, int32_t token, Clock::time_point now);
  void retire();
};

Status Generator::State::admit() {
  while (!queue.empty()) {
    Running &next = queue.front();
    next.reservedPages = pagesOf(longest(next.request));
    auto sequence = engine.createSequence();
    if (!sequence.isOk()) {
      if (running.empty())
        return sequence.status();
      break;
    }
    // The engine has chosen a group, whose pages decide; the choice is another one next time.
    const int group = engine.groupOf(*sequence);
    if (next.reservedPages > unreservedPages(group)) {
      engine.releaseSequence(*sequence);
      if (running.empty())
        return resourceExhausted("the request needs " + std::to_string(next.reservedPages) +
                                 " KV pages, but only " +
                                 std::to_string(engine.freePagesOf(group)) +
                                 " are free and no running request will free more");
      break;
    }
    next.sequence = *sequence;
    next.result.queueSeconds = secondsBetween(next.submitted, Clock::now());
    running.push_back(std::move(next));
    queue.pop_front();
  }
  return Status::ok();
}

void Generator::State::plan() {
  entries.clear();
  owners.clear();
  auto tokens = static_cast<size_t>(info.maxBatchTokens);
  int rows = info.maxLogitRows;
  auto add = [&](size_t index, std::span<const int32_t> part, bool sample) {
    entries.push_back({.sequence = running[index].sequence,
                       .tokens = part,
                       .logitRows = sample ? 1 : 0,
                       .sample = sample,
                       .sampling = running[index].request.sampling});
    owners.push_back(index);
    tokens -= part.size();
    rows -= sample;
  };
  for (size_t i = 0; i < running.size() && tokens > 0 && rows > 0; ++i)
    if (running[i].generating())
      add(i, std::span(&running[i].result.tokens.back(), 1), true);
  for (size_t i = 0; i < running.size() && tokens > 0; ++i) {
    const Running &r = running[i];
    if (r.generating())
      continue;
    std::span<const int32_t> rest = std::span(r.request.prompt).subspan(r.prefilled);
    size_t count = std::min(rest.size(), tokens);
    // The end of a prompt waits when no row of logits is left to draw from.
    if (count == rest.size() && rows == 0 && --count == 0)
      continue;
    add(i, rest.first(count), count == rest.size());
  }
}

void Generator::State::advance(Running &r, int32_t token, Clock::time_point now) {
  GenerateResult &result = r.result;
  if (result.tokens.empty()) {
    result.firstTokenSeconds = secondsBetween(r.submitted, now);
    firstToken.record(result.firstTokenSeconds);
  } else {
    double seconds = secondsBetween(r.lastToken, now);
    result.tokenSeconds.push_back(static_cast<float>(seconds));
    betweenTokens.record(seconds);
  }
  r.lastToken = now;
  result.tokens.push_back(token);
  bool keep = !r.request.onToken || r.request.onToken(token);
  const std::vector<int32_t> &stops = r.request.stopIds;
  if (std::find(stops.begin(), stops.end(), token) != stops.end())
    result.reason = FinishReason::kStopToken;
  else if (!keep)
    result.reason = FinishReason::kCancelled;
  else if (result.tokens.size() >= static_cast<size_t>(r.request.maxNewTokens))
    result.reason = FinishReason::kMaxTokens;
  else if (engine.sequenceLength(r.sequence) >= info.maxSeqLen)
    result.reason = FinishReason::kContextFull;
}

void Generator::State::retire() {
  for (Running &r : running) {
    if (!r.finished())
      continue;
    engine.releaseSequence(r.sequence);
    done.emplace(r.id, std::move(r.result));
    r.sequence = -1;
  }
  std::erase_if(running, [](const Running &r) { return r.sequence < 0; });
}

Generator::Generator(Engine &engine) : state(std::make_unique<State>(engine)) {}

Generator::~Generator() {
  for (const Running &r : state->running)
    state->engine.releaseSequence(r.sequence);
}

Result<RequestId> Generator::submit(GenerateRequest request) {
  const EngineInfo &info = state->info;
  if (request.prompt.empty())
    return invalidArgument("the prompt is empty; give at least one token");
  if (request.maxNewTokens < 1)
    return invalidArgument("maxNewTokens is " + std::to_string(request.maxNewTokens) +
                           "; it must be at least 1");
  if (request.prompt.size() > static_cast<size_t>(info.maxSeqLen))
    return invalidArgument("the prompt has " + std::to_string(request.prompt.size()) +
                           " tokens, but the plan allows " + std::to_string(info.maxSeqLen) +
                           " per sequence; shorten it or compile with a larger --max-seq-len");
  for (int32_t token : request.prompt)
    if (token < 0 || token >= info.vocabSize)
      return invalidArgument("token id " + std::to_string(token) +
                             " of the prompt is outside [0, " + std::to_string(info.vocabSize - 1) +
                             "]; is this the model's own tokenizer?");
  SLUICE_RETURN_IF_ERROR(checkSampling(request.sampling));
  Running entry;
  entry.id = state->nextId++;
  entry.request = std::move(request);
  entry.submitted = Clock::now();
  state->queue.push_back(std::move(entry));
  return state->queue.back().id;
}

void Generator::cancel(RequestId request) {
  auto matches = [&](const Running &r) { return r.id == request; };
  auto queued = std::find_if(state->queue.begin(), state->queue.end(), matches);
  if (queued != state->queue.end()) {
    queued->result.reason = FinishReason::kCancelled;
    state->done.emplace(request, std::move(queued->result));
    state->queue.erase(queued);
    return;
  }
  auto running = std::find_if(state->running.begin(), state->running.end(), matches);
  if (running != state->running.end()) {
    running->result.reason = FinishReason::kCancelled;
    state->retire();
  }
}

bool Generator::idle() const { return state->queue.empty() && state->running.empty(); }

Status Generator::step() {
  SLUICE_RETURN_IF_ERROR(state->admit());
  if (state->running.empty())
    return Status::ok();
  state->plan();
  state->outputs.resize(state->entries.size());
  SLUICE_RETURN_IF_ERROR(state->engine.step(state->entries, state->outputs));
  const Clock::time_point now = Clock::now();
  for (size_t i = 0; i < state->entries.size(); ++i) {
    Running &r = state->running[state->owners[i]];
    if (!r.generating())
      r.prefilled += state->entries[i].tokens.size();
    if (state->entries[i].sample)
      state->advance(r, state->outputs[i].sampledId, now);
  }
  state->retire();
  return Status::ok();
}

Status Generator::run() {
  while (!idle())
    SLUICE_RETURN_IF_ERROR(step());
  return Status::ok();
}

Result<GenerateResult> Generator::take(RequestId request) {
  auto found = state->done.find(request);
  if (found == state->done.end()) {
    auto matches = [&](const Running &r) { return r.id == request; };
    if (std::any_of(state->queue.begin(), state->queue.end(), matches) ||
        std::any_of(state->running.begin(), state->running.end(), matches))
      return invalidArgument("request " + std::to_string(request) + " has not finished");
    return notFound("request " + std::to_string(request) + " is unknown or was taken already");
  }
  GenerateResult out = std::move(found->second);
  state->done.erase(found);
  return out;
}

const LatencyHistogram &Generator::firstTokenLatency() const { return state->firstToken; }
const LatencyHistogram &Generator::tokenLatency() const { return state->betweenTokens; }

} // namespace sluice
