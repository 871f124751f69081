//===- NormalizeModel.cpp - Canonical form of an imported model -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Importers state a model the way its publisher does. What follows wants one form: no operation
// that does nothing, no weight stored twice, nothing unused. Doing this once here keeps importers
// literal and later passes simple.
//
//===----------------------------------------------------------------------===//
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"

namespace sluice {
#define GEN_PASS_DEF_NORMALIZEMODEL
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// The value that `op` merely passes on, or null.
Value passedOn(Operation *op) {
  if (auto temperature = dyn_cast<moe::TemperatureOp>(op))
    if (temperature.getScale().isZero())
      return temperature.getX();
  if (auto rope = dyn_cast<moe::RopeOp>(op))
    if (rope.getRope().getDim() == 0)
      return rope.getX();
  if (auto clamp = dyn_cast<moe::ClampOp>(op))
    if (auto inner = clamp.getX().getDefiningOp<moe::ClampOp>())
      if (inner.getLimit() <= clamp.getLimit())
        return clamp.getX();
  return {};
}

struct NormalizeModelPass : impl::NormalizeModelBase<NormalizeModelPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    module.walk([](Operation *op) {
      if (Value value = passedOn(op)) {
        op->getResult(0).replaceAllUsesWith(value);
        op->erase();
      }
    });
    unifyWeights(module);
    dropUnused(module);
  }

private:
  /// Calls `visit` on every symbol reference that an operation of a function holds.
  static void forEachReference(ModuleOp module, llvm::function_ref<void(FlatSymbolRefAttr)> visit) {
    for (auto func : module.getOps<func::FuncOp>())
      func.walk([&](Operation *op) {
        for (NamedAttribute attr : op->getAttrs())
          if (auto ref = dyn_cast<FlatSymbolRefAttr>(attr.getValue()))
            visit(ref);
      });
  }

  static void unifyWeights(ModuleOp module) {
    llvm::DenseMap<Attribute, moe::WeightOp> first;
    llvm::DenseMap<StringAttr, StringAttr> renamed;
    for (auto weight : llvm::make_early_inc_range(module.getOps<moe::WeightOp>())) {
      auto [it, inserted] = first.try_emplace(weight.getValue(), weight);
      if (inserted)
        continue;
      renamed[weight.getSymNameAttr()] = it->second.getSymNameAttr();
      weight.erase();
    }
    if (renamed.empty())
      return;
    AttrTypeReplacer replacer;
    replacer.addReplacement([&](FlatSymbolRefAttr ref) -> Attribute {
      auto it = renamed.find(ref.getAttr());
      return it == renamed.end() ? ref : FlatSymbolRefAttr::get(it->second);
    });
    for (auto func : module.getOps<func::FuncOp>())
      replacer.recursivelyReplaceElementsIn(func, /*replaceAttrs=*/true);
  }

  static void dropUnused(ModuleOp module) {
    llvm::DenseSet<StringAttr> used;
    forEachReference(module, [&](FlatSymbolRefAttr ref) { used.insert(ref.getAttr()); });
    for (Operation &op : llvm::make_early_inc_range(module.getOps()))
      if (isa<moe::WeightOp, moe::KvCacheOp>(op) && !used.contains(SymbolTable::getSymbolName(&op)))
        op.erase();
  }
};

} // namespace
} // namespace sluice
