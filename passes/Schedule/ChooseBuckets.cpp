//===- ChooseBuckets.cpp - Token counts that get a program ------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The pass around BucketPlanner: reads the limit and the options, writes `plan.buckets`.
//
//===----------------------------------------------------------------------===//
#include "passes/Passes.h"
#include "passes/Schedule/BucketPlanner.h"

#include "mlir/IR/Builders.h"

namespace sluice {
#define GEN_PASS_DEF_CHOOSEBUCKETS
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

struct ChooseBucketsPass : impl::ChooseBucketsBase<ChooseBucketsPass> {
  using ChooseBucketsBase::ChooseBucketsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    StringRef limitsName = moe::MoeDialect::getLimitsAttrName();
    auto limits = module->getAttrOfType<DictionaryAttr>(limitsName);
    auto maxTokens = limits ? limits.getAs<IntegerAttr>("max_batch_tokens") : IntegerAttr();
    if (!maxTokens) {
      module.emitError("cannot choose buckets: module attribute '")
          << limitsName << "' with max_batch_tokens is missing";
      return signalPassFailure();
    }
    auto chosen = choose(maxTokens.getInt());
    if (!chosen.isOk()) {
      module.emitError("cannot choose buckets: ") << chosen.status().message();
      return signalPassFailure();
    }
    module->setAttr(plan::PlanDialect::getBucketsAttrName(),
                    DenseI64ArrayAttr::get(&getContext(), *chosen));
  }

private:
  Result<std::vector<int64_t>> choose(int64_t maxTokens) {
    BucketPlanner planner({maxTokens, maxBuckets, bucketCost});
    if (!buckets.empty() && !arrivals.empty())
      return invalidArgument("buckets and arrivals exclude each other; give one of them");
    if (!buckets.empty())
      return given(maxTokens);
    if (arrivals.empty())
      return planner.geometric();
    std::vector<StepFrequency> histogram;
    for (StringRef entry : arrivals) {
      auto [tokens, count] = entry.split(':');
      StepFrequency step;
      if (tokens.getAsInteger(10, step.tokens) || count.getAsDouble(step.count))
        return invalidArgument("arrival \"" + entry.str() + "\" is not TOKENS:COUNT, as in 16:250");
      histogram.push_back(step);
    }
    return planner.plan(histogram);
  }

  Result<std::vector<int64_t>> given(int64_t maxTokens) {
    std::vector<int64_t> out;
    int64_t previous = 0;
    for (int64_t tokens : buckets) {
      if (tokens <= previous)
        return invalidArgument("bucket " + std::to_string(tokens) + " follows " +
                               std::to_string(previous) + "; token counts must ascend from 1");
      if (tokens > maxTokens)
        return invalidArgument("bucket " + std::to_string(tokens) +
                               " exceeds max_batch_tokens = " + std::to_string(maxTokens));
      out.push_back(previous = tokens);
    }
    if (previous != maxTokens)
      out.push_back(maxTokens);
    return out;
  }
};

} // namespace
} // namespace sluice
