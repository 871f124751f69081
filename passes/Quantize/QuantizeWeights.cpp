//===- QuantizeWeights.cpp - Choose the weights that become codes -----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Decides only: every chosen weight becomes the expression "this, rounded to that format", which
// later passes rearrange like any other. Which weights are worth it follows from what they are used
// for. Routers and heads decide between close numbers and are a small part of the bytes; the two
// halves of kv_b are transposed per head when it is absorbed, which scales of rows do not survive.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/QuantizedWeights.h"
#include "passes/Analysis/WeightSymbols.h"
#include "passes/Passes.h"
#include "passes/Quantize/QuantizeRules.h"
#include "runtime/quant/WeightFormat.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/GlobPattern.h"

namespace sluice {
#define GEN_PASS_DEF_QUANTIZEWEIGHTS
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// Scopes of the weights of a model; 0 for one that some use wants as it is.
llvm::MapVector<StringAttr, unsigned> scopesOf(ModuleOp module) {
  llvm::MapVector<StringAttr, unsigned> scopes;
  auto use = [&](FlatSymbolRefAttr ref, unsigned scope) {
    auto [entry, isNew] = scopes.insert({ref.getAttr(), scope});
    if (!isNew && entry->second != scope)
      entry->second = 0;
  };
  module.walk([&](Operation *op) {
    if (auto embedding = dyn_cast<moe::EmbeddingOp>(op)) {
      use(embedding.getTableAttr(), 0);
    } else if (auto linear = dyn_cast<moe::LinearOp>(op)) {
      bool kept = llvm::any_of(linear.getResult().getUsers(), [](Operation *user) {
        return isa<moe::RouteOp, moe::SampleOp>(user) || user->hasTrait<OpTrait::IsTerminator>();
      });
      use(linear.getWeightAttr(), kept ? 0u : unsigned(kScopeAttention));
    } else if (auto experts = dyn_cast<moe::ExpertsOp>(op)) {
      for (FlatSymbolRefAttr ref :
           {experts.getGateAttr(), experts.getUpAttr(), experts.getDownAttr()})
        use(ref, kScopeExperts);
    } else if (auto ffn = dyn_cast<moe::FfnOp>(op)) {
      bool shared = ffn.getGate().contains(".shared.");
      for (FlatSymbolRefAttr ref : {ffn.getGateAttr(), ffn.getUpAttr(), ffn.getDownAttr()})
        use(ref, shared ? kScopeShared : kScopeFfn);
    }
  });
  return scopes;
}

struct QuantizeWeightsPass : impl::QuantizeWeightsBase<QuantizeWeightsPass> {
  using QuantizeWeightsBase::QuantizeWeightsBase;

  void runOnOperation() override {
    if (failed(run()))
      signalPassFailure();
  }

private:
  LogicalResult run() {
    SmallVector<QuantizeRule> parsed;
    for (const std::string &text : rules) {
      auto rule = parseQuantizeRule(text);
      if (!rule.isOk())
        return getOperation().emitError() << rule.status().message();
      parsed.push_back(std::move(*rule));
    }
    SmallVector<llvm::GlobPattern> kept;
    for (const std::string &text : exclude) {
      auto pattern = llvm::GlobPattern::create(text);
      if (!pattern)
        return getOperation().emitError("pattern \"")
               << text << "\" of weights to exclude: " << llvm::toString(pattern.takeError());
      kept.push_back(std::move(*pattern));
    }
    if (failed(setActivations()))
      return failure();

    SmallVector<bool> matched(kept.size());
    WeightSymbols weights(getOperation());
    for (auto [name, scope] : scopesOf(getOperation())) {
      bool excluded = false;
      for (auto [pattern, seen] : llvm::zip(kept, matched))
        if (pattern.match(name.getValue()))
          excluded = seen = true;
      const QuantizeRule *last = nullptr;
      for (const QuantizeRule &rule : parsed)
        if (rule.scopes & scope)
          last = &rule;
      if (last && !excluded &&
          failed(quantize(weights.lookup(FlatSymbolRefAttr::get(name)), *last)))
        return failure();
    }
    balanceExperts(weights);
    for (auto [text, seen] : llvm::zip(exclude, matched))
      if (!seen)
        return getOperation().emitError("pattern \"")
               << text << "\" of weights to exclude matches no weight of a product";
    return success();
  }

  /// down · (act(gate) * up) does not change when row i of up is multiplied by a factor and column
  /// i of down divided by it. Powers of two are all that mxfp4 can scale by, so that a factor
  /// within [1, 2) per row lowers its error. Not where something else enters between the two
  /// products.
  void balanceExperts(WeightSymbols &weights) {
    llvm::DenseMap<StringAttr, int> uses;
    auto count = [&](auto op) {
      for (FlatSymbolRefAttr ref : {op.getUpAttr(), op.getDownAttr()})
        ++uses[ref.getAttr()];
    };
    auto balance = [&](auto op) {
      if (op.getUpBias() || op.getActivation().getKind() == moe::ActivationKind::SwigluOai ||
          uses[op.getUpAttr().getAttr()] != 1 || uses[op.getDownAttr().getAttr()] != 1)
        return;
      moe::WeightOp up = weights.lookup(op.getUpAttr()), down = weights.lookup(op.getDownAttr());
      auto upRounded = dyn_cast<moe::QuantizeAttr>(up.getValue());
      auto downRounded = dyn_cast<moe::QuantizeAttr>(down.getValue());
      auto isPlainMx = [](moe::QuantizeAttr attr) {
        return attr && attr.getFormat().getValue() == "mxfp4" && !isQuantized(attr.getOperand());
      };
      if (!isPlainMx(upRounded) || !isPlainMx(downRounded))
        return;
      TypedAttr factors = upRounded.withPart(moe::QuantizePart::RowScales);
      up.setValueAttr(rescaled(upRounded, factors, shapeOf(upRounded).back()));
      down.setValueAttr(rescaled(downRounded, ofColumns(factors, shapeOf(downRounded)), 1));
    };
    getOperation().walk([&](Operation *op) {
      llvm::TypeSwitch<Operation *>(op).Case<moe::ExpertsOp, moe::FfnOp>(count);
    });
    getOperation().walk([&](Operation *op) {
      llvm::TypeSwitch<Operation *>(op).Case<moe::ExpertsOp, moe::FfnOp>(balance);
    });
  }

  static ArrayRef<int64_t> shapeOf(TypedAttr expr) { return moe::getWeightType(expr).getShape(); }
  static TypedAttr asTyped(Attribute attr) { return cast<TypedAttr>(attr); }

  /// The same rounding of the numbers times `factors`, which `group` neighbours of a row share.
  TypedAttr rescaled(moe::QuantizeAttr rounded, TypedAttr factors, int64_t group) {
    auto numbers = asTyped(moe::ConvertAttr::get(&getContext(), rounded.getOperand(),
                                                 Float32Type::get(&getContext())));
    auto product = asTyped(moe::DequantizeAttr::get(&getContext(), numbers, factors, TypedAttr(),
                                                    group, /*origin=*/0));
    return asTyped(moe::QuantizeAttr::get(&getContext(), product, rounded.getFormat(),
                                          moe::QuantizePart::Numbers));
  }

  /// Reciprocals of factors [..., I, 1] for the columns of a matrix [..., H, I].
  TypedAttr ofColumns(TypedAttr factors, ArrayRef<int64_t> shape) {
    auto inverse = asTyped(moe::ReciprocalAttr::get(&getContext(), factors));
    SmallVector<int64_t> row(shape);
    int64_t axis = int64_t(shape.size()) - 2;
    row[axis] = 1;
    auto flat = asTyped(
        moe::ReshapeAttr::get(&getContext(), inverse, moe::getWeightType(inverse).clone(row)));
    return asTyped(
        moe::RepeatAttr::get(&getContext(), flat, axis, /*times=*/shape[axis], shape[axis]));
  }

  LogicalResult setActivations() {
    if (activations == "f32")
      return success();
    if (activations != "fp8")
      return getOperation().emitError("unknown activation format '")
             << activations.getValue() << "'; known are f32 and fp8";
    getOperation()->setAttr(moe::MoeDialect::getActivationsAttrName(),
                            StringAttr::get(&getContext(), "f8e4m3:group128"));
    return success();
  }

  LogicalResult quantize(moe::WeightOp weight, const QuantizeRule &rule) {
    TypedAttr value = weight.getValue();
    if (isQuantized(value) && !isa<moe::ConvertAttr>(value)) {
      weight.emitRemark("weight @")
          << weight.getSymName() << " is quantised in the checkpoint and keeps its codes; give "
          << "bf16," << rule.name << " to quantise its numbers again";
      return success();
    }
    quant::WeightFormat format = *quant::WeightFormat::parse(rule.format);
    RankedTensorType type = moe::getWeightType(value);
    int64_t columns = type.getShape().back(), group = format.blockCols;
    if (format.scope == quant::ScaleScope::kGroup && columns % group != 0) {
      InFlightDiagnostic diag = skipUnfit ? weight.emitRemark() : weight.emitError();
      diag << "weight @" << weight.getSymName() << " cannot be stored as " << rule.name
           << ": rows of " << columns << " columns are not whole groups of " << group
           << (skipUnfit ? "; it is kept"
                         : "; exclude it by name, keep such weights as they are, or choose a "
                           "format with one scale per row");
      return success(skipUnfit);
    }
    if (!isa<Float32Type, BFloat16Type, Float16Type>(type.getElementType()))
      return weight.emitError("weight @")
             << weight.getSymName() << " has elements of type " << type.getElementType()
             << "; only f32, bf16 and f16 can be quantised";
    auto rounded = cast<TypedAttr>(Attribute(
        moe::QuantizeAttr::get(&getContext(), value, StringAttr::get(&getContext(), rule.format),
                               moe::QuantizePart::Numbers)));
    weight.setValueAttr(rounded);
    weight.setTypeAttr(TypeAttr::get(rounded.getType()));
    return success();
  }
};

} // namespace
} // namespace sluice
