//===- Plan.h - The `plan` dialect ------------------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The one header of the dialect. A reader of a packed module walks it like this:
//
//   for (plan::RankOp rank : module.getOps<plan::RankOp>())
//     for (plan::ProgramOp program : rank.getPrograms())
//       for (plan::CmdLaunchOp launch : program.getLaunches())
//         launch.getKernel(), launch.getRanges(), launch.getStream(), launch.getLabel()
//
// with rank.getSlabs(), getWeights(), getCaches() and getIoBuffers() beside the programs and
// module.getOps<plan::KernelOp>() before the ranks.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_DIALECTS_PLAN_PLAN_H
#define SLUICE_DIALECTS_PLAN_PLAN_H

#include "dialects/Moe/Moe.h"
#include "runtime/artifact/KernelFamilies.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include <optional>

namespace sluice::plan {

/// Alignment in bytes of every slab of the kind and of what is placed in it. Weights and caches
/// start on pages, so that they can be mapped and registered one by one; buffers of a step at the
/// alignment that CUDA's allocations and copy engines have, which covers every vector width.
enum class SlabKind : uint32_t;
int64_t slabAlignment(SlabKind kind);

/// The argument whose place argument `written` of a launch may take over, that is, be the same
/// buffer as; nothing for most arguments. The conventions are in runtime/artifact/KernelFamilies.h.
std::optional<unsigned> replaceableArg(const abi::FamilyParams &params, unsigned written);

/// The sizes of a step of up to `tokens` tokens under the module's `moe.limits`; failure (without a
/// diagnostic) when the module has none, one is outside [1, 2^31) or tokens exceed them.
mlir::FailureOr<abi::StepDims> stepDims(mlir::ModuleOp module, int64_t tokens);

/// Name and bytes of the step's IO buffers under the module's `moe.limits`, in the order of
/// StepAbi.h, without expert_counts. Failure as of stepDims, and when a size exceeds 2^62 bytes.
mlir::FailureOr<llvm::SmallVector<std::pair<llvm::StringRef, int64_t>>>
stepBuffers(mlir::ModuleOp module, int64_t vocabSize);

/// Bytes of a weight of static shape `shape` stored in `layout` and `format`. Fails when layout or
/// format is unknown or the shape does not fit the layout; see plan.weight.
Result<uint64_t> weightBytes(llvm::StringRef layout, llvm::StringRef format,
                             llvm::ArrayRef<int64_t> shape);

/// Kernel parameters as an attribute, in field order of their family, and back.
mlir::DictionaryAttr paramsToAttr(mlir::MLIRContext *context, const abi::FamilyParams &params);
Result<abi::FamilyParams> paramsFromAttr(llvm::StringRef family, mlir::DictionaryAttr params);

} // namespace sluice::plan

#include "dialects/Plan/PlanDialect.h.inc"
#include "dialects/Plan/PlanEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Plan/PlanAttrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/Plan/PlanTypes.h.inc"

#define GET_OP_CLASSES
#include "dialects/Plan/PlanOps.h.inc"

#endif // SLUICE_DIALECTS_PLAN_PLAN_H
