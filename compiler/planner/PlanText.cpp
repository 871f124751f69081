//===- PlanText.cpp - A plan as tables for a terminal -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/PlanReport.h"

#include "runtime/base/Format.h"

#include <algorithm>

namespace sluice::planner {
namespace {

constexpr size_t kWidth = 100;

/// `text` in lines of at most kWidth characters, each indented.
std::string wrapped(const std::string &text, size_t indent) {
  std::string result;
  for (size_t begin = 0; begin < text.size();) {
    size_t room = kWidth - indent, end = text.size();
    if (end - begin > room) {
      end = text.rfind(' ', begin + room);
      if (end == std::string::npos || end <= begin)
        end = begin + room;
    }
    result += std::string(indent, ' ') + text.substr(begin, end - begin) + "\n";
    begin = end < text.size() && text[end] == ' ' ? end + 1 : end;
  }
  return result;
}

std::string binary(uint64_t bytes) { return formatBinaryBytes(bytes); }

void appendHead(std::string &out, const PlanReport &report) {
  const ModelTable &model = report.model;
  const Target &target = report.decision.target;
  out += format("%s (%s): %s parameters, %s per token; %zu layers", model.name.c_str(),
                model.family.c_str(), formatCount(uint64_t(model.parameters())).c_str(),
                formatCount(uint64_t(model.activeParameters())).c_str(), model.layers.size());
  if (model.moeLayers() > 0) {
    int64_t topK = 0;
    for (const TableLayer &layer : model.layers)
      topK = std::max(topK, layer.topK);
    out += format(", %lld with %lld experts (top %lld)", (long long)model.moeLayers(),
                  (long long)model.maxExperts(), (long long)topK);
  }
  out +=
      format("\nweights of %s, mostly %s; kv cache %s\n", formatBytes(model.weightBytes()).c_str(),
             model.mainFormat().c_str(), model.kvType.c_str());
  uint64_t available = target.bytesPerRank(report.decision.ranks);
  out += format("target %s: %lld x %s, ", target.name.c_str(), (long long)report.decision.ranks,
                target.title.c_str());
  if (available == 0)
    out += "memory not known\n";
  else if (target.sharedByRanks)
    out += format("%s for each rank of %s\n", binary(available).c_str(),
                  binary(target.usableBytes).c_str());
  else
    out += format("%s usable of %s as sold\n", binary(available).c_str(),
                  formatBytes(target.datasheetBytes).c_str());
  if (!report.calibration.empty())
    out += "constants calibrated by " + report.calibration + "\n";
}

void appendVerdict(std::string &out, const PlanReport &report) {
  const Decision &decision = report.decision;
  const Candidate *subject = decision.subject();
  out += "\nVerdict\n";
  if (!decision.chosen) {
    out += wrapped(std::string(refusalOf(decision, report.model).message()), 2);
    return;
  }
  out += wrapped("fits: " + subject->shape.name() + " on " + std::to_string(decision.ranks) +
                     (decision.ranks == 1 ? " rank, " : " ranks, ") +
                     binary(subject->memory.total()) + " per rank",
                 2);
  out += wrapped(decision.reason, 2);
  for (const std::string &note : subject->facts.notes)
    out += wrapped("note: " + note, 2);
}

void appendMemory(std::string &out, const PlanReport &report) {
  const Candidate &subject = *report.decision.subject();
  const RankMemory &memory = subject.memory;
  out += memory.isExact ? "\nMemory of the fullest rank, as the compiled plan allocates it\n"
                        : "\nMemory of the fullest rank, by the rules of sharding (activations: an "
                          "upper bound)\n";
  auto row = [&](const std::string &name, uint64_t bytes, const std::string &note = "") {
    out += format("  %-26s %12s %17llu", name.c_str(), binary(bytes).c_str(),
                  (unsigned long long)bytes);
    out += note.empty() ? "\n" : "  " + note + "\n";
  };
  row("weights", memory.weightBytes());
  for (int role = 0; role < kWeightRoles; ++role)
    if (uint64_t bytes = memory.weights[size_t(role)]) {
      std::string note;
      if (WeightRole(role) == WeightRole::kExperts && memory.replicas > 0)
        note = "copies: " + binary(memory.replicas);
      row(std::string("  ") + weightRoleName(WeightRole(role)), bytes, note);
    }
  row("  alignment", memory.padding);
  row("kv cache", memory.kv,
      format("%lld tokens",
             (long long)(report.model.limits.numPages * report.model.limits.pageSize)));
  row("activations", memory.arena);
  row("step buffers", memory.io);
  if (uint64_t reserve = memory.context + memory.collectives + memory.graphs) {
    row("reserve", reserve);
    row("  context", memory.context);
    row("  collectives", memory.collectives);
    row("  graphs", memory.graphs);
  }
  row("total", memory.total());
  if (uint64_t available = report.decision.target.bytesPerRank(report.decision.ranks))
    row("available", available);
  if (subject.slabs.size() > 1) {
    auto [least, most] = std::minmax_element(
        subject.slabs.begin(), subject.slabs.end(),
        [](const RankSlabs &a, const RankSlabs &b) { return a.total() < b.total(); });
    if (least->total() == most->total())
      out += format("  the slabs of all %zu ranks are as large\n", subject.slabs.size());
    else
      out += format("  slabs of the %zu ranks: %s (rank %lld) to %s (rank %lld)\n",
                    subject.slabs.size(), binary(least->total()).c_str(), (long long)least->rank,
                    binary(most->total()).c_str(), (long long)most->rank);
  }
}

void appendShapes(std::string &out, const PlanReport &report, const Candidate &subject) {
  const ModelTable &model = report.model;
  out += format("\nWays to share the model (decode of %lld sequences at %lld positions, prefill of "
                "%lld tokens)\n",
                (long long)report.curve.points.back().batch, (long long)report.curve.context,
                (long long)model.limits.tokens);
  out += "     tp   ep   dp  heads by      per rank     decode    prefill\n";
  int64_t shown = 0;
  std::vector<const Candidate *> refused;
  for (const Candidate &candidate : report.decision.candidates) {
    if (!candidate.refusal.empty()) {
      refused.push_back(&candidate);
      continue;
    }
    if (++shown > 24)
      continue;
    bool isChosen = candidate.fits && candidate.shape == subject.shape;
    out += format(
        "  %c %3lld  %3lld  %3lld  %8lld  %12s %10s %10s%s\n", isChosen ? '>' : ' ',
        (long long)candidate.shape.tp, (long long)candidate.shape.ep, (long long)candidate.shape.dp,
        (long long)candidate.facts.attentionTp, binary(candidate.memory.total()).c_str(),
        formatDuration(candidate.decode.seconds).c_str(),
        formatDuration(candidate.prefill.seconds).c_str(), candidate.fits ? "" : "  does not fit");
  }
  if (shown > 24)
    out += format("    and %lld more\n", (long long)(shown - 24));
  // One line per rule: shapes that differ in dp alone break the same one.
  std::vector<std::string> reasons;
  for (const Candidate *candidate : refused)
    if (std::find(reasons.begin(), reasons.end(), candidate->refusal) == reasons.end())
      reasons.push_back(candidate->refusal);
  for (size_t i = 0; i < reasons.size() && i < 8; ++i)
    out += wrapped("not: " + reasons[i], 4);
}

void appendCurve(std::string &out, const PlanReport &report) {
  const BatchCurve &curve = report.curve;
  out += format("\nDecoding at %lld positions\n", (long long)curve.context);
  out += wrapped("routing: " + report.stats.source, 2);
  bool isMoe = report.model.moeLayers() > 0;
  const bool hasTraces = !curve.points.empty() && curve.points[0].consecutiveExperts > 0;
  out += isMoe ? std::string("    batch  experts  busiest group      bytes       step   tokens/s") +
                     (hasTraces ? "  experts of one text\n" : "\n")
               : "    batch      bytes       step   tokens/s\n";
  for (size_t i = 0; i < curve.points.size(); ++i) {
    const BatchPoint &point = curve.points[i];
    out += format("  %c %5lld", i == curve.sweetSpot ? '*' : ' ', (long long)point.batch);
    if (isMoe)
      out += format("  %7.2f  %13.2f", point.cost.distinctExperts, point.cost.largestGroupExperts);
    out += format(" %10s %10s %10.1f", formatBytes(uint64_t(point.cost.bytes)).c_str(),
                  formatDuration(point.cost.seconds).c_str(), point.tokensPerSecond);
    out += point.consecutiveExperts > 0 ? format("  %19.2f\n", point.consecutiveExperts) : "\n";
  }
  if (hasTraces)
    out += "  experts of one text: of as many consecutive tokens of the traces\n";
  out += "  * sweet spot: past it a doubled batch gives less than half again as many tokens\n";
}

void appendComparisons(std::string &out, const PlanReport &report) {
  out += "\nPredicted against measured\n";
  out += "  phase      tokens   context    predicted     measured     error\n";
  for (const Comparison &comparison : report.comparisons)
    out +=
        format("  %-8s %8lld  %8lld %12s %12s  %+6.1f %%\n",
               comparison.step.isDecode ? "decode" : "prefill", (long long)comparison.step.tokens,
               (long long)comparison.step.context, formatDuration(comparison.predicted).c_str(),
               formatDuration(comparison.step.seconds).c_str(), 100 * comparison.error());
}

void appendContexts(std::string &out, const PlanReport &report) {
  out += "\nMost sequences that fit, by context\n";
  std::string contexts = "  positions", counts = "  sequences";
  for (const ContextRow &row : report.contexts) {
    contexts += format("%9lld", (long long)row.context);
    counts += row.sequences < 10'000'000
                  ? format("%9lld", (long long)row.sequences)
                  : format("%9s", formatCount(uint64_t(row.sequences)).c_str());
  }
  out += contexts + "\n" + counts + "\n";
}

} // namespace

std::string planText(const PlanReport &report) {
  std::string out;
  appendHead(out, report);
  appendVerdict(out, report);
  const Candidate *subject = report.decision.subject();
  if (!subject)
    return out;
  appendMemory(out, report);
  appendShapes(out, report, *subject);
  appendCurve(out, report);
  if (!report.comparisons.empty())
    appendComparisons(out, report);
  if (report.decision.chosen)
    appendContexts(out, report);
  return out;
}

} // namespace sluice::planner
