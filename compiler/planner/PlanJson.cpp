//===- PlanJson.cpp - A plan as JSON ----------------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/planner/PlanReport.h"

#include "runtime/base/Version.h"

#include <algorithm>

namespace sluice::planner {
namespace {

json::Value costJson(const StepCost &cost) {
  json::Value value;
  value.set("seconds", cost.seconds);
  value.set("attention_seconds", cost.attention);
  value.set("expert_seconds", cost.experts);
  value.set("dense_seconds", cost.dense);
  value.set("head_seconds", cost.head);
  value.set("communication_seconds", cost.communication);
  value.set("fixed_seconds", cost.fixed);
  value.set("bytes", cost.bytes);
  value.set("distinct_experts", cost.distinctExperts);
  value.set("busiest_group_experts", cost.largestGroupExperts);
  return value;
}

void setShape(json::Value &value, const Candidate &candidate) {
  value.set("tp", candidate.shape.tp);
  value.set("ep", candidate.shape.ep);
  value.set("dp", candidate.shape.dp);
  value.set("slots", candidate.facts.slotsPerGroup * candidate.shape.ep);
}

json::Value memoryJson(const Candidate &subject) {
  const RankMemory &memory = subject.memory;
  json::Value value, weights;
  for (int role = 0; role < kWeightRoles; ++role)
    weights.set(weightRoleName(WeightRole(role)), memory.weights[size_t(role)]);
  weights.set("alignment", memory.padding);
  value.set("exact", memory.isExact);
  value.set("total", memory.total());
  value.set("slabs", memory.slabBytes());
  value.set("weights_total", memory.weightBytes());
  value.set("weights", std::move(weights));
  value.set("expert_copies", memory.replicas);
  value.set("kv", memory.kv);
  value.set("activations", memory.arena);
  value.set("io", memory.io);
  value.set("context", memory.context);
  value.set("collectives", memory.collectives);
  value.set("graphs", memory.graphs);
  json::Value ranks = json::Value::array();
  for (const RankSlabs &slabs : subject.slabs) {
    json::Value rank;
    rank.set("rank", slabs.rank);
    rank.set("weights", slabs.weights);
    rank.set("kv", slabs.kv);
    rank.set("activations", slabs.arena);
    rank.set("io", slabs.io);
    ranks.push(std::move(rank));
  }
  value.set("ranks", std::move(ranks));
  return value;
}

json::Value strings(const std::vector<std::string> &list) {
  json::Value value = json::Value::array();
  for (const std::string &entry : list)
    value.push(entry);
  return value;
}

json::Value matrix(const std::vector<std::vector<double>> &rows) {
  json::Value value = json::Value::array();
  for (const std::vector<double> &row : rows) {
    json::Value entries = json::Value::array();
    for (double entry : row)
      entries.push(entry);
    value.push(std::move(entries));
  }
  return value;
}

json::Value modelJson(const ModelTable &model) {
  json::Value value;
  int64_t topK = 0;
  for (const TableLayer &layer : model.layers)
    topK = std::max(topK, layer.topK);
  value.set("name", model.name);
  value.set("family", model.family);
  value.set("parameters", model.parameters());
  value.set("active_parameters", model.activeParameters());
  value.set("layers", int64_t(model.layers.size()));
  value.set("moe_layers", model.moeLayers());
  value.set("experts", model.maxExperts());
  value.set("top_k", topK);
  value.set("weight_bytes", model.weightBytes());
  value.set("weight_format", model.mainFormat());
  value.set("kv_type", model.kvType);
  return value;
}

json::Value limitsJson(const TableLimits &limits) {
  json::Value value;
  value.set("max_batch_tokens", limits.tokens);
  value.set("max_seqs", limits.seqs);
  value.set("max_seq_len", limits.seqLen);
  value.set("max_logit_rows", limits.logitRows);
  value.set("page_size", limits.pageSize);
  value.set("num_pages", limits.numPages);
  return value;
}

json::Value targetJson(const PlanReport &report) {
  const Target &target = report.decision.target;
  json::Value value, peaks = json::Value::object();
  value.set("name", target.name);
  value.set("title", target.title);
  value.set("kind", target.kind);
  value.set("devices_per_node", target.devicesPerNode);
  value.set("nodes", target.nodes);
  value.set("datasheet_bytes", target.datasheetBytes);
  value.set("usable_bytes", target.usableBytes);
  value.set("memory_bytes_per_second", target.memoryBytesPerSecond);
  for (const auto &[type, peak] : target.peaks)
    peaks.set(type, peak);
  value.set("peak_flops", std::move(peaks));
  value.set("launch_seconds", target.launchSeconds);
  value.set("calibration", report.calibration);
  return value;
}

json::Value verdictJson(const PlanReport &report) {
  const Decision &decision = report.decision;
  const Candidate *subject = decision.subject();
  json::Value value, remedies = json::Value::array();
  value.set("fits", decision.chosen.has_value());
  value.set("ranks", decision.ranks);
  setShape(value, *subject);
  value.set("bytes_per_rank", subject->memory.total());
  value.set("available_bytes_per_rank", decision.target.bytesPerRank(decision.ranks));
  value.set("reason", decision.chosen ? decision.reason
                                      : std::string(refusalOf(decision, report.model).message()));
  value.set("notes", strings(subject->facts.notes));
  for (const Remedy &remedy : decision.remedies)
    remedies.push(remedy.text);
  value.set("remedies", std::move(remedies));
  return value;
}

json::Value shapesJson(const Decision &decision) {
  json::Value rows = json::Value::array();
  for (size_t i = 0; i < decision.candidates.size(); ++i) {
    const Candidate &candidate = decision.candidates[i];
    json::Value row;
    setShape(row, candidate);
    row.set("feasible", candidate.refusal.empty());
    row.set("fits", candidate.fits);
    row.set("chosen", decision.chosen && *decision.chosen == i);
    if (candidate.refusal.empty()) {
      row.set("attention_tp", candidate.facts.attentionTp);
      row.set("notes", strings(candidate.facts.notes));
      row.set("bytes_per_rank", candidate.memory.total());
      row.set("decode", costJson(candidate.decode));
      row.set("prefill", costJson(candidate.prefill));
    } else {
      row.set("refusal", candidate.refusal);
    }
    rows.push(std::move(row));
  }
  return rows;
}

json::Value curveJson(const BatchCurve &curve) {
  json::Value value, points = json::Value::array();
  for (const BatchPoint &point : curve.points) {
    json::Value entry = costJson(point.cost);
    entry.set("batch", point.batch);
    entry.set("tokens_per_second", point.tokensPerSecond);
    if (point.consecutiveExperts > 0)
      entry.set("consecutive_experts", point.consecutiveExperts);
    points.push(std::move(entry));
  }
  value.set("context", curve.context);
  value.set("sweet_spot_batch", curve.points.empty() ? 0 : curve.points[curve.sweetSpot].batch);
  value.set("points", std::move(points));
  return value;
}

} // namespace

std::vector<Comparison> compareSteps(const CostModel &costs, const Target &target,
                                     const std::string &model) {
  std::vector<Comparison> result;
  for (const MeasuredStep &step : target.measured) {
    if (step.model != model)
      continue;
    StepLoad load = step.isDecode ? CostModel::decode(step.tokens, step.context)
                                  : CostModel::prefill(step.tokens);
    result.push_back({step, costs.step(load).seconds});
  }
  return result;
}

std::vector<std::vector<double>> groupLoads(const RoutingStats &stats, int64_t groups, bool dealt) {
  std::vector<std::vector<double>> result;
  for (size_t layer = 0; layer < stats.chosen.size(); ++layer) {
    const std::vector<double> &chosen = stats.chosen[layer];
    const int64_t experts = int64_t(chosen.size());
    std::vector<double> loads(size_t(groups), 0.0);
    bool isPlaced =
        !dealt && layer < stats.placement.size() && stats.placement[layer].size() == size_t(groups);
    std::vector<double> copies(chosen.size(), 0.0);
    if (isPlaced)
      for (const auto &group : stats.placement[layer])
        for (int64_t expert : group)
          if (expert >= 0 && expert < experts)
            copies[size_t(expert)] += 1;
    double sum = 0;
    for (int64_t group = 0; group < groups; ++group) {
      double &load = loads[size_t(group)];
      if (isPlaced) {
        for (int64_t expert : stats.placement[layer][size_t(group)])
          if (expert >= 0 && expert < experts)
            load += chosen[size_t(expert)] / copies[size_t(expert)];
      } else {
        for (int64_t e = group * experts / groups; e < (group + 1) * experts / groups; ++e)
          load += chosen[size_t(e)];
      }
      sum += load;
    }
    for (double &load : loads)
      load = sum > 0 ? load * double(groups) / sum : 0;
    result.push_back(std::move(loads));
  }
  return result;
}

json::Value planJson(const PlanReport &report) {
  json::Value value;
  value.set("schema", "sluice-plan/1");
  value.set("producer", std::string("sluice ") + kVersion);
  value.set("model", modelJson(report.model));
  value.set("limits", limitsJson(report.model.limits));
  const Candidate *subject = report.decision.subject();
  if (!subject)
    return value;
  value.set("target", targetJson(report));
  value.set("verdict", verdictJson(report));
  value.set("memory", memoryJson(*subject));
  value.set("parallelism", shapesJson(report.decision));
  value.set("batch_curve", curveJson(report.curve));
  json::Value contexts = json::Value::array();
  for (const ContextRow &row : report.contexts) {
    json::Value entry;
    entry.set("context", row.context);
    entry.set("sequences", row.sequences);
    contexts.push(std::move(entry));
  }
  value.set("largest_batches", std::move(contexts));
  json::Value measured = json::Value::array();
  for (const Comparison &comparison : report.comparisons) {
    json::Value entry;
    entry.set("phase", comparison.step.isDecode ? "decode" : "prefill");
    entry.set("tokens", comparison.step.tokens);
    entry.set("context", comparison.step.context);
    entry.set("measured_seconds", comparison.step.seconds);
    entry.set("predicted_seconds", comparison.predicted);
    entry.set("error", comparison.error());
    measured.push(std::move(entry));
  }
  value.set("measured", std::move(measured));
  json::Value experts;
  experts.set("source", report.stats.source);
  experts.set("tokens", report.stats.tokens);
  if (report.stats.tokens > 0) {
    experts.set("chosen", matrix(report.stats.chosen));
    experts.set("groups_dealt", matrix(groupLoads(report.stats, subject->shape.ep, true)));
    experts.set("groups_placed", matrix(groupLoads(report.stats, subject->shape.ep, false)));
  }
  value.set("routing", std::move(experts));
  return value;
}

} // namespace sluice::planner
