//===- Plan.cpp - Planning a model without its weights ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A copy of the model lowered for one rank gives the table that all shapes are weighed by; the
// chosen shape is then lowered too, so that what is promised is what a compilation allocates. Both
// take tenths of a second, because weights are names.
//
//===----------------------------------------------------------------------===//
#include "compiler/driver/PlanPhase.h"

#include "compiler/planner/ModelTableReader.h"
#include "dialects/Moe/Moe.h"
#include "passes/Analysis/QuantizedWeights.h"
#include "runtime/base/File.h"
#include "runtime/profile/ProfileFile.h"

#include "mlir/IR/OwningOpRef.h"
#include "llvm/Support/Path.h"

#include <bit>

using namespace mlir;

namespace sluice {

using namespace planner;

namespace {

/// Ranks up to which the chosen shape is lowered rank by rank. Beyond it a plan has more programs
/// than a few seconds lower, and the arithmetic of RankMemory.h stands alone.
constexpr int64_t kMaxLoweredRanks = 32;

class Planning {
public:
  Planning(ModuleOp quantized, const CompileOptions &options, const PlanOptions &plan,
           PhaseRunner run, PlanReport &report)
      : quantized(quantized), options(options), plan(plan), run(run), report(report) {}

  Status decide() {
    SLUICE_ASSIGN_OR_RETURN(target, resolveTarget(options.target, plan));
    report.calibration = plan.calibration;
    SLUICE_RETURN_IF_ERROR(readModel());
    SLUICE_RETURN_IF_ERROR(readRouting());
    ParallelPlanner planner(report.model, target, report.stats);
    SLUICE_ASSIGN_OR_RETURN(report.decision, planner.plan(plan.request));
    SLUICE_RETURN_IF_ERROR(makeExact());
    describe();
    return Status::ok();
  }

private:
  Status failedTo(const char *what) const {
    return invalidArgument(std::string("the model cannot be ") + what + "; see the errors above");
  }

  CompileOptions shaped(const ParallelShape &shape) const {
    CompileOptions result = options;
    result.ranks = shape.ranks();
    result.tp = shape.tp;
    result.ep = shape.ep;
    result.dp = shape.dp;
    result.slots = shape.slots;
    if (shape.ep == 1)
      result.profiles.clear();
    // The largest bucket decides how much memory a plan takes: buffers grow with the tokens.
    result.buckets = {largestBucket()};
    return result;
  }

  int64_t largestBucket() const {
    auto limits = quantized->getAttrOfType<DictionaryAttr>(moe::MoeDialect::getLimitsAttrName());
    return limits.getAs<IntegerAttr>("max_batch_tokens").getInt();
  }

  Status readModel() {
    OwningOpRef<ModuleOp> copy = quantized.clone();
    CompileOptions single = shaped({});
    if (failed(run(*copy, Phase::Placed, Phase::Fused, single)))
      return failedTo("fused");
    facts = readFused(*copy);
    if (failed(run(*copy, Phase::Partitioned, Phase::Planned, single)))
      return failedTo("lowered");
    report.model = readModelTable(*copy, facts);
    report.model.kvType = options.kvType;
    for (moe::WeightOp weight : quantized.getOps<moe::WeightOp>())
      report.model.storesCodes |= isQuantized(weight.getValue());
    // Powers of two unless they are given (BucketPlanner::geometric), and the largest.
    report.model.buckets = options.buckets.empty()
                               ? std::bit_width(uint64_t(largestBucket() - 1)) + 1
                               : int64_t(options.buckets.size());
    oneRank = std::move(copy);
    return Status::ok();
  }

  Status readRouting() {
    const ModelTable &model = report.model;
    const TableLayer *moe = nullptr;
    for (const TableLayer &layer : model.layers)
      if (layer.experts > 0)
        moe = &layer;
    report.stats.source = "uniform";
    if (!moe)
      return Status::ok();
    if (options.profiles.empty()) {
      for (const TableLayer &layer : model.layers)
        if (layer.experts > 0)
          report.stats.chosen.push_back(uniformChoice(layer.experts, layer.topK));
      return Status::ok();
    }
    SLUICE_ASSIGN_OR_RETURN(Profile profile, readProfiles());
    std::string source;
    for (const std::string &path : options.profiles)
      source += (source.empty() ? "" : ", ") + llvm::sys::path::filename(path).str();
    if (profile.topK != 0 && profile.topK != moe->topK)
      return invalidArgument(source + ": a token chose " + std::to_string(profile.topK) +
                             " experts, in this model it chooses " + std::to_string(moe->topK) +
                             "; it is the profile of another model");
    traces = std::move(profile.domains);
    traceLayers = profile.layers;
    traceTopK = profile.topK;
    std::vector<std::vector<double>> counts;
    for (int layer = 0; layer < profile.layers; ++layer) {
      counts.push_back(profile.total(layer));
      // Bare traces do not say how many experts there are, only which ones were chosen.
      if (!traces.empty() && int64_t(counts.back().size()) < moe->experts)
        counts.back().resize(size_t(moe->experts), 0.0);
    }
    SLUICE_ASSIGN_OR_RETURN(
        report.stats, statsFromCounts(counts, model.moeLayers(), moe->experts, moe->topK, source));
    return Status::ok();
  }

  Result<Profile> readProfiles() const {
    std::vector<Profile> profiles;
    for (const std::string &path : options.profiles) {
      SLUICE_ASSIGN_OR_RETURN(Profile profile, readProfile(path));
      profiles.push_back(std::move(profile));
    }
    return mergeProfiles(profiles, options.profiles);
  }

  /// Lowers the chosen shape, and the next best one when its exact bytes do not fit after all.
  Status makeExact() {
    Decision &decision = report.decision;
    const uint64_t available = decision.target.bytesPerRank(decision.ranks);
    if (decision.ranks > kMaxLoweredRanks)
      return Status::ok();
    for (size_t i = 0; i < decision.candidates.size() && decision.candidates[i].fits; ++i) {
      Candidate &candidate = decision.candidates[i];
      OwningOpRef<ModuleOp> copy;
      FusedFacts shared;
      if (decision.ranks == 1) {
        copy = std::move(oneRank);
      } else {
        copy = quantized.clone();
        const CompileOptions shape = shaped(candidate.shape);
        if (failed(run(*copy, Phase::Placed, Phase::Placed, shape)))
          return failedTo("placed");
        report.stats.placement = readPlacement(*copy);
        if (failed(run(*copy, Phase::Fused, Phase::Partitioned, shape)))
          return failedTo("shared in this way");
        shared = readFused(*copy);
        if (failed(run(*copy, Phase::Planned, Phase::Planned, shaped(candidate.shape))))
          return failedTo("lowered");
      }
      candidate.slabs = readSlabs(*copy, decision.ranks == 1 ? facts : shared, candidate.memory);
      candidate.fits = available == 0 || candidate.memory.total() <= available;
      decision.chosen = candidate.fits ? std::optional(i) : std::nullopt;
      if (candidate.fits)
        return Status::ok();
    }
    return Status::ok();
  }

  void describe() {
    Decision &decision = report.decision;
    const Candidate *subject = decision.subject();
    if (!subject)
      return;
    const TableLimits &limits = report.model.limits;
    CostModel costs(report.model, subject->shape, subject->facts, report.decision.target,
                    report.stats);
    int64_t batch = plan.request.decodeBatch > 0 ? plan.request.decodeBatch : limits.seqs;
    int64_t context =
        plan.request.decodeContext > 0 ? plan.request.decodeContext : limits.seqLen / 2;
    report.curve = batchCurve(costs, batch, context);
    for (BatchPoint &point : report.curve.points)
      point.consecutiveExperts = consecutiveExperts(point.batch);
    // The chosen shape is now known with its placement; the others are compared without one.
    if (decision.chosen) {
      Candidate &chosen = decision.candidates[*decision.chosen];
      chosen.decode = report.curve.points.back().cost;
      chosen.prefill = costs.step(CostModel::prefill(limits.tokens));
    }
    report.comparisons = compareSteps(costs, report.decision.target, report.model.name);
    report.contexts = largestBatches(report.model, *subject, report.decision.target);
  }

  /// Of the profile's traces, a domain counting as much as another.
  double consecutiveExperts(int64_t batch) const {
    constexpr int64_t windows = 64;
    double sum = 0;
    int64_t counted = 0;
    for (const ProfileDomain &domain : traces) {
      double distinct = distinctInWindows(domain.ids, traceLayers, traceTopK, batch, windows);
      sum += distinct;
      counted += distinct > 0;
    }
    return counted > 0 ? sum / double(counted) : 0;
  }

  ModuleOp quantized;
  const CompileOptions &options;
  const PlanOptions &plan;
  PhaseRunner run;
  PlanReport &report;
  Target target;
  FusedFacts facts;
  std::vector<ProfileDomain> traces;
  int64_t traceLayers = 0, traceTopK = 0;
  OwningOpRef<ModuleOp> oneRank;
};

} // namespace

Result<Target> resolveTarget(const std::string &name, const PlanOptions &plan) {
  Target target;
  if (plan.targetFile.empty()) {
    SLUICE_ASSIGN_OR_RETURN(target, findTarget(name));
  } else {
    SLUICE_ASSIGN_OR_RETURN(std::string text, readFile(plan.targetFile, 1 << 20));
    SLUICE_ASSIGN_OR_RETURN(target, parseTarget(text, plan.targetFile));
  }
  if (!plan.calibration.empty()) {
    SLUICE_ASSIGN_OR_RETURN(std::string text, readFile(plan.calibration, 1 << 20));
    SLUICE_RETURN_IF_ERROR(applyCalibration(target, text, plan.calibration));
  }
  return target;
}

Status planQuantized(ModuleOp quantized, const CompileOptions &options, const PlanOptions &plan,
                     PhaseRunner run, PlanReport &report) {
  return Planning(quantized, options, plan, run, report).decide();
}

} // namespace sluice
