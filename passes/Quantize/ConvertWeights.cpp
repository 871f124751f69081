//===- ConvertWeights.cpp - One element type for the weights of products ----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Kernels stream weights, so the bytes per weight set the speed of decoding. This pass chooses
// among the unquantised types; the conversion itself happens while the artifact is written.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/QuantizedWeights.h"
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringSwitch.h"

namespace sluice {
#define GEN_PASS_DEF_CONVERTWEIGHTS
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

struct ConvertWeightsPass : impl::ConvertWeightsBase<ConvertWeightsPass> {
  using ConvertWeightsBase::ConvertWeightsBase;

  void runOnOperation() override {
    if (format == "keep")
      return;
    Builder builder(&getContext());
    Type element = llvm::StringSwitch<Type>(format)
                       .Case("bf16", builder.getBF16Type())
                       .Case("f16", builder.getF16Type())
                       .Case("f32", builder.getF32Type())
                       .Default(Type());
    if (!element) {
      getOperation().emitError("unknown weight format '")
          << format.getValue() << "'; known are keep, bf16, f16 and f32";
      return signalPassFailure();
    }
    WeightSymbols weights(getOperation());
    auto convert = [&](FlatSymbolRefAttr ref) {
      moe::WeightOp weight = weights.lookup(ref);
      auto type = cast<RankedTensorType>(weight.getType());
      // The numbers of a quantised weight are f32 as they are; only a conversion makes them what
      // is stored.
      if (type.getElementType() == element && !isQuantized(weight.getValue()))
        return;
      TypedAttr value = cast<TypedAttr>(
          Attribute(moe::ConvertAttr::get(&getContext(), weight.getValue(), element)));
      weight.setValueAttr(value);
      weight.setTypeAttr(TypeAttr::get(value.getType()));
    };
    getOperation().walk([&](Operation *op) {
      if (auto embedding = dyn_cast<moe::EmbeddingOp>(op))
        convert(embedding.getTableAttr());
      else if (auto linear = dyn_cast<moe::LinearOp>(op))
        convert(linear.getWeightAttr());
      else if (auto gate = dyn_cast<moe::SigmoidGateOp>(op))
        convert(gate.getWeightAttr());
      else if (auto attention = dyn_cast<moe::LatentAttentionOp>(op))
        convert(attention.getKvBAttr());
      else if (auto experts = dyn_cast<moe::ExpertsOp>(op))
        for (FlatSymbolRefAttr ref :
             {experts.getGateAttr(), experts.getUpAttr(), experts.getDownAttr()})
          convert(ref);
      else if (auto ffn = dyn_cast<moe::FfnOp>(op))
        for (FlatSymbolRefAttr ref : {ffn.getGateAttr(), ffn.getUpAttr(), ffn.getDownAttr()})
          convert(ref);
    });
  }
};

} // namespace
} // namespace sluice
