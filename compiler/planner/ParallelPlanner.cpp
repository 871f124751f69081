//===- ParallelPlanner.cpp - Which ranks do what ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The number of shapes is that of the divisors of R squared at most, and a shape costs
// microseconds: everything is enumerated, nothing is searched.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/ParallelPlanner.h"

#include "runtime/base/Format.h"

#include <algorithm>
#include <cmath>

namespace sluice::planner {
namespace {

constexpr int64_t kMaxRanks = 4096;

std::string text(int64_t value) { return std::to_string(value); }

uint64_t availableBytes(const Target &target, int64_t ranks) { return target.bytesPerRank(ranks); }

bool fitsTarget(const RankMemory &memory, const Target &target, int64_t ranks) {
  uint64_t available = availableBytes(target, ranks);
  return available == 0 || memory.total() <= available;
}

/// Rank counts that deployments have: powers of two, and whole nodes.
std::vector<int64_t> rankCounts(const Target &target) {
  std::vector<int64_t> counts;
  int64_t node = target.maxDevicesPerNode;
  for (int64_t count = 1; count < std::min<int64_t>(node, 1024); count *= 2)
    counts.push_back(count);
  for (int64_t nodes = 1; nodes * node <= 1024; nodes = nodes < 4 ? nodes + 1 : nodes * 2)
    counts.push_back(nodes * node);
  std::sort(counts.begin(), counts.end());
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  return counts;
}

} // namespace

const Candidate *Decision::subject() const {
  if (chosen)
    return &candidates[*chosen];
  const Candidate *nearest = nullptr;
  for (const Candidate &candidate : candidates)
    if (candidate.refusal.empty() &&
        (!nearest || candidate.memory.total() < nearest->memory.total()))
      nearest = &candidate;
  return nearest;
}

Candidate ParallelPlanner::evaluate(const ParallelShape &shape, const Target &sized,
                                    const PlanRequest &request) const {
  Candidate candidate;
  candidate.shape = shape;
  Result<ShapeFacts> facts = checkShape(model, shape);
  if (!facts.isOk()) {
    candidate.refusal = std::string(facts.status().message());
    return candidate;
  }
  candidate.facts = std::move(*facts);
  candidate.memory = rankMemory(model, shape, candidate.facts, sized);
  candidate.fits = fitsTarget(candidate.memory, sized, shape.ranks());
  CostModel costs(model, shape, candidate.facts, sized, stats);
  int64_t batch = request.decodeBatch > 0 ? request.decodeBatch : model.limits.seqs;
  int64_t context = request.decodeContext > 0 ? request.decodeContext : model.limits.seqLen / 2;
  candidate.decode = costs.step(CostModel::decode(batch, context));
  candidate.prefill = costs.step(CostModel::prefill(model.limits.tokens));
  return candidate;
}

Result<Decision> ParallelPlanner::planRanks(int64_t ranks, const PlanRequest &request) const {
  Decision decision;
  decision.ranks = ranks;
  SLUICE_ASSIGN_OR_RETURN(decision.target, target.forRanks(ranks));
  auto asked = [](int64_t wanted, int64_t value) { return wanted == 0 || wanted == value; };
  for (int64_t tp = 1; tp <= ranks; ++tp) {
    if (ranks % tp != 0 || !asked(request.tp, tp) || !asked(request.ep, ranks / tp))
      continue;
    for (int64_t dp = 1; dp <= ranks; ++dp) {
      // A dp that was asked for is reported even if no rule could allow it.
      if (!asked(request.dp, dp) || (ranks % dp != 0 && request.dp == 0))
        continue;
      decision.candidates.push_back(
          evaluate({tp, ranks / tp, dp, request.slots}, decision.target, request));
    }
  }
  if (decision.candidates.empty())
    return invalidArgument("ranks = " + text(ranks) +
                           " cannot be shared with tp = " + text(request.tp) +
                           ", ep = " + text(request.ep) + ", dp = " + text(request.dp) +
                           " (0: any); tp * ep must be the number of ranks and dp must divide it");

  double bestDecode = INFINITY, bestPrefill = INFINITY;
  for (const Candidate &candidate : decision.candidates) {
    if (!candidate.fits)
      continue;
    bestDecode = std::min(bestDecode, candidate.decode.seconds);
    bestPrefill = std::min(bestPrefill, candidate.prefill.seconds);
  }
  for (Candidate &candidate : decision.candidates)
    if (candidate.fits)
      candidate.score = std::sqrt(candidate.decode.seconds / bestDecode *
                                  candidate.prefill.seconds / bestPrefill);
  // Fitting ones by score, feasible ones by bytes, then the others as they were enumerated. Scores
  // that differ in the noise of the model do not decide: fewer groups and smaller memory do.
  std::stable_sort(decision.candidates.begin(), decision.candidates.end(),
                   [](const Candidate &a, const Candidate &b) {
                     auto rank = [](const Candidate &c) {
                       return c.fits ? 0 : c.refusal.empty() ? 1 : 2;
                     };
                     if (rank(a) != rank(b))
                       return rank(a) < rank(b);
                     if (a.fits && a.score != b.score)
                       return a.score < b.score;
                     return rank(a) == 1 && a.memory.total() < b.memory.total();
                   });
  const Candidate &first = decision.candidates.front();
  if (!first.refusal.empty()) {
    if (decision.candidates.size() == 1)
      return invalidArgument(first.refusal);
    return invalidArgument("no way to share the model among " + text(ranks) +
                           " ranks is feasible; " + first.shape.name() + ": " + first.refusal);
  }
  if (!first.fits)
    return decision;
  decision.chosen = 0;
  if (ranks == 1)
    decision.reason = "one rank has nothing to share";
  else if (decision.candidates.size() == 1)
    decision.reason = "the only shape that was asked for";
  else
    decision.reason =
        format("best balance among the shapes that fit: decode takes %.2f times the "
               "shortest, prefill %.2f times",
               first.decode.seconds / bestDecode, first.prefill.seconds / bestPrefill);
  return decision;
}

Result<Decision> ParallelPlanner::plan(const PlanRequest &request) const {
  for (auto [name, value] : {std::pair("ranks", request.ranks),
                             {"tp", request.tp},
                             {"ep", request.ep},
                             {"dp", request.dp},
                             {"slots", request.slots}})
    if (value < 0 || value > (std::string_view(name) == "slots" ? 1 << 20 : kMaxRanks))
      return invalidArgument(std::string(name) + " = " + text(value) + " is outside [1, " +
                             text(std::string_view(name) == "slots" ? 1 << 20 : kMaxRanks) + "]");
  int64_t ranks = request.ranks;
  if (ranks == 0 && request.tp > 0 && request.ep > 0)
    ranks = request.tp * request.ep;
  if (ranks == 0 && target.countIsFixed)
    ranks = target.devices();
  if (ranks == 0 && target.sharedByRanks)
    ranks = std::max<int64_t>({request.tp, request.ep, request.dp, 1});
  if (ranks > 0) {
    if (request.tp > 0 && request.ep > 0 && request.tp * request.ep != ranks)
      return invalidArgument("tp = " + text(request.tp) + " times ep = " + text(request.ep) +
                             " is not the number of ranks, " + text(ranks));
    SLUICE_ASSIGN_OR_RETURN(Decision decision, planRanks(ranks, request));
    if (!decision.chosen)
      findRemedies(decision, request);
    return decision;
  }
  // The fewest ranks that fit. The last refusal is kept when none does.
  Result<Decision> last = internalError("no number of ranks was tried");
  for (int64_t count : rankCounts(target)) {
    Result<Decision> decision = planRanks(count, request);
    if (!decision.isOk()) {
      if (!last.isOk())
        last = std::move(decision);
      continue;
    }
    if (decision->chosen) {
      decision->reason =
          count == 1 ? "one rank suffices" : decision->reason + "; fewer ranks do not fit";
      return decision;
    }
    last = std::move(decision);
  }
  if (last.isOk())
    findRemedies(*last, request);
  return last;
}

uint64_t bytesInFormat(const ModelTable &model, double bitsPerNumber) {
  double bytes = 0;
  for (const TableWeight &weight : model.weights) {
    bool isConverted = weight.layout != "row_major" && weight.role != WeightRole::kRouter &&
                       weight.role != WeightRole::kHead;
    double converted = double(weight.elements()) * bitsPerNumber / 8;
    bytes += isConverted ? std::min(converted, double(weight.bytes)) : double(weight.bytes);
  }
  return uint64_t(bytes);
}

void ParallelPlanner::findRemedies(Decision &decision, const PlanRequest &request) const {
  const Candidate *subject = decision.subject();
  if (!subject)
    return;
  const RankMemory &memory = subject->memory;
  const uint64_t available = availableBytes(decision.target, decision.ranks);

  // Fewer cached tokens.
  uint64_t withoutKv = memory.total() - memory.kv;
  if (withoutKv < available) {
    double perToken = kvBytesPerToken(model, subject->facts);
    int64_t pages = int64_t(double(available - withoutKv) / perToken) / model.limits.pageSize;
    // One page of slack per cache for the alignment of slabs.
    int64_t least = (model.limits.seqLen + model.limits.pageSize - 1) / model.limits.pageSize;
    if (pages > least)
      decision.remedies.push_back({"--num-pages " + text(pages - 1) + ": caches of " +
                                   text((pages - 1) * model.limits.pageSize) +
                                   " tokens instead of " +
                                   text(model.limits.numPages * model.limits.pageSize)});
  }
  // A smaller step.
  uint64_t withoutStep = memory.total() - memory.arena - memory.io;
  if (withoutStep < available) {
    double perToken = double(memory.arena) / double(model.limits.tokens);
    int64_t tokens = model.limits.tokens;
    while (tokens > 1 &&
           double(withoutStep + memory.io) + perToken * double(tokens) > double(available))
      tokens /= 2;
    if (tokens < model.limits.tokens &&
        double(withoutStep + memory.io) + perToken * double(tokens) <= double(available))
      decision.remedies.push_back(
          {"--max-batch-tokens " + text(tokens) + ": steps of fewer tokens"});
  }
  // Narrower weights: the part of the products shrinks, whatever the shape. Codes of a checkpoint
  // are kept as they are unless they are made numbers first.
  const uint64_t now = model.weightBytes();
  const std::pair<const char *, double> formats[] = {
      {"fp8-block", 8.25}, {"int8-channel", 8.02}, {"int4-g128", 4.375}, {"mxfp4", 4.25}};
  for (auto [name, bits] : formats) {
    double share = double(bytesInFormat(model, bits)) / double(now);
    double saved = double(memory.weightBytes()) * (1 - share);
    if (share < 0.9 && double(memory.total()) - saved <= double(available)) {
      decision.remedies.push_back({std::string("--quantize ") + (model.storesCodes ? "bf16," : "") +
                                   name + ": weights of about " +
                                   formatBytes(uint64_t(double(now) * share)) + " instead of " +
                                   formatBytes(now)});
      break;
    }
  }
  // More devices of the same kind, with freedom to share the model in any way.
  Target open = target;
  open.countIsFixed = false;
  ParallelPlanner planner(model, open, stats);
  PlanRequest free;
  free.slots = request.slots;
  free.decodeBatch = request.decodeBatch;
  free.decodeContext = request.decodeContext;
  if (!target.sharedByRanks)
    for (int64_t count : rankCounts(target)) {
      if (count <= decision.ranks)
        continue;
      Result<Decision> larger = planner.planRanks(count, free);
      if (!larger.isOk() || !larger->chosen)
        continue;
      const Candidate &found = larger->candidates[*larger->chosen];
      decision.remedies.push_back({text(count) + " devices (" + found.shape.name() +
                                   "): " + formatBinaryBytes(found.memory.total()) + " of " +
                                   formatBinaryBytes(availableBytes(larger->target, count)) +
                                   " per rank"});
      break;
    }
}

Status refusalOf(const Decision &decision, const ModelTable &model) {
  const Candidate *subject = decision.subject();
  if (decision.chosen || !subject)
    return Status::ok();
  const RankMemory &memory = subject->memory;
  // The tightest resource is the largest item.
  std::vector<std::pair<std::string, uint64_t>> items;
  for (int role = 0; role < kWeightRoles; ++role)
    items.push_back({std::string("weights of ") + weightRoleName(WeightRole(role)),
                     memory.weights[size_t(role)]});
  items.push_back({"kv cache", memory.kv});
  items.push_back({"activations", memory.arena});
  items.push_back({"step buffers", memory.io});
  auto largest = std::max_element(items.begin(), items.end(),
                                  [](auto &a, auto &b) { return a.second < b.second; });
  std::string message = "the model does not fit on " + text(decision.ranks) + " x " +
                        decision.target.title + ": " + subject->shape.name() + " needs " +
                        formatBinaryBytes(memory.total()) + " per rank, " +
                        formatBinaryBytes(availableBytes(decision.target, decision.ranks)) +
                        " are there; tightest are the " + largest->first + " with " +
                        formatBinaryBytes(largest->second) + "; all weights together are " +
                        formatBytes(model.weightBytes()) + " (" + model.mainFormat() + ")";
  for (size_t i = 0; i < decision.remedies.size(); ++i)
    message += (i == 0 ? "; what would fit: " : ", or ") + decision.remedies[i].text;
  if (decision.remedies.empty())
    message += "; nothing that was tried would fit";
  return resourceExhausted(message);
}

std::vector<ContextRow> largestBatches(const ModelTable &model, const Candidate &candidate,
                                       const Target &target) {
  std::vector<ContextRow> rows;
  uint64_t available = availableBytes(target, candidate.shape.ranks());
  uint64_t rest = candidate.memory.total() - candidate.memory.kv;
  double perToken = kvBytesPerToken(model, candidate.facts);
  for (int64_t context = 1024;; context *= 2) {
    context = std::min(context, model.maxPosition);
    int64_t pages = (context + model.limits.pageSize - 1) / model.limits.pageSize;
    double bytes = double(pages * model.limits.pageSize) * perToken;
    int64_t sequences = 0;
    if (available == 0)
      sequences = model.limits.numPages / pages;
    else if (rest < available)
      sequences = int64_t(double(available - rest) / bytes);
    // Every data parallel group has caches of its own.
    rows.push_back({context, sequences * candidate.shape.dp});
    if (context >= model.maxPosition || rows.size() == 9)
      return rows;
  }
}

} // namespace sluice::planner
