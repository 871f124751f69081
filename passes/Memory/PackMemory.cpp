//===- PackMemory.cpp - plan.async -> plan.cmd ------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The last decision of a plan: where every byte lies. What persists is laid out in the order of its
// declaration; what lives within a step is packed by lifetimes (MemoryPacker.h) after results have
// taken over the places of dying operands where kernels work in place. Then each operation is
// rewritten with ranges instead of values.
//
//===----------------------------------------------------------------------===//
#include "passes/Memory/MemoryPacker.h"
#include "passes/Passes.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SmallSet.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

namespace sluice {
#define GEN_PASS_DEF_PACKMEMORY
#include "passes/Passes.h.inc"
} // namespace sluice

using namespace mlir;

namespace sluice {
namespace {

/// Sizes of slabs and what they add up to are kept below this, so that sums cannot overflow.
constexpr int64_t maxSlabBytes = int64_t(1) << 50;

/// Kernels of the module, parsed once.
class Kernels {
public:
  explicit Kernels(ModuleOp module) {
    for (plan::KernelOp kernel : module.getOps<plan::KernelOp>()) {
      auto params = kernel.getFamilyParams();
      assert(params.isOk() && "verified");
      byName.try_emplace(kernel.getSymNameAttr(), std::move(*params));
    }
  }
  const abi::FamilyParams &operator[](FlatSymbolRefAttr name) const {
    return byName.find(name.getAttr())->second;
  }

private:
  llvm::DenseMap<StringAttr, abi::FamilyParams> byName;
};

/// Packs one program and rewrites it.
class ProgramPacker {
public:
  ProgramPacker(plan::ProgramOp program, SymbolTable &rankSymbols, const Kernels &kernels)
      : program(program), rankSymbols(rankSymbols), kernels(kernels) {}

  LogicalResult run() {
    collectLifetimes();
    reuseInPlace();
    if (failed(pack()))
      return failure();
    rewrite();
    return success();
  }

private:
  struct Lifetime {
    int64_t first = -1, last = -1, bytes = 0;
    Value home; ///< the buffer whose place it takes over; itself for most
  };

  static std::optional<int64_t> streamOf(Operation *op) {
    auto stream = op->getAttrOfType<IntegerAttr>("stream");
    return stream ? std::optional(stream.getInt()) : std::nullopt;
  }

  /// First and last use of every transient, by the position of operations in the program.
  void collectLifetimes() {
    int64_t position = 0;
    llvm::SmallSet<int64_t, 4> streams;
    for (Operation &op : *program.getBlock()) {
      for (Value operand : op.getOperands()) {
        if (!operand.getDefiningOp<plan::AsyncTransientOp>())
          continue;
        Lifetime &lifetime = lifetimes[operand];
        if (lifetime.first < 0)
          lifetime = {position, position, cast<plan::BufferType>(operand.getType()).getBytes(),
                      operand};
        lifetime.last = position;
      }
      if (std::optional<int64_t> stream = streamOf(&op))
        streams.insert(*stream);
      ++position;
    }
    isConcurrent = streams.size() > 1;
    if (isConcurrent)
      for (auto &[buffer, lifetime] : lifetimes)
        lifetime.first = 0, lifetime.last = position;
  }

  /// Lets a result take the place of an operand that nothing reads later, where the family allows.
  void reuseInPlace() {
    if (isConcurrent)
      return;
    int64_t position = -1;
    for (Operation &op : *program.getBlock()) {
      ++position;
      // Sums replace what they sum up; backends add in place.
      if (auto collective = dyn_cast<plan::AsyncCollectiveOp>(op);
          collective && collective.getKind() == plan::CollectiveKind::AllReduce)
        takeOver(position, collective.getResult(), collective.getSource());
      auto launch = dyn_cast<plan::AsyncLaunchOp>(op);
      if (!launch)
        continue;
      SmallVector<Value> args = launch.getArgs();
      for (unsigned written = 0; written < args.size(); ++written) {
        std::optional<unsigned> replaced =
            plan::replaceableArg(kernels[launch.getKernelAttr()], written);
        if (replaced && args[written] && args[*replaced] && llvm::count(args, args[*replaced]) == 1)
          takeOver(position, args[written], args[*replaced]);
      }
    }
  }

  /// Gives `written`, a result of the operation at `position`, the place of `replaced` if that is
  /// free from then on.
  void takeOver(int64_t position, Value written, Value replaced) {
    auto to = lifetimes.find(written), from = lifetimes.find(replaced);
    if (to == lifetimes.end() || from == lifetimes.end())
      return;
    Lifetime &home = lifetimes[from->second.home];
    if (to->second.first != position || from->second.last != position || home.last != position ||
        to->second.bytes > home.bytes)
      return;
    to->second.home = from->second.home;
    home.last = to->second.last;
  }

  LogicalResult pack() {
    SmallVector<Value> homes;
    std::vector<LiveInterval> intervals;
    int64_t total = 0;
    for (auto &[buffer, lifetime] : lifetimes) {
      if (lifetime.home != buffer)
        continue;
      homes.push_back(buffer);
      intervals.push_back({lifetime.first, lifetime.last, lifetime.bytes});
      if (llvm::AddOverflow(total, lifetime.bytes, total) || total > maxSlabBytes)
        return program.emitOpError("needs more than 2^50 bytes of transient buffers; lower "
                                   "max_batch_tokens");
    }
    packing = MemoryPacker(plan::slabAlignment(plan::SlabKind::Arena)).pack(intervals);
    for (auto [buffer, offset] : llvm::zip(homes, packing.offsets))
      offsets[buffer] = offset;
    return success();
  }

  /// The place of a buffer.
  plan::RangeAttr rangeOf(Value buffer) {
    auto bytes = cast<plan::BufferType>(buffer.getType()).getBytes();
    auto range = [&](plan::SlabKind slab, int64_t offset) {
      return plan::RangeAttr::get(program.getContext(), slab, offset, bytes);
    };
    return TypeSwitch<Operation *, plan::RangeAttr>(buffer.getDefiningOp())
        .Case([&](plan::AsyncTransientOp) {
          return range(plan::SlabKind::Arena, offsets.at(lifetimes[buffer].home));
        })
        .Case([&](plan::AsyncWeightOp op) {
          auto weight = rankSymbols.lookup<plan::WeightOp>(op.getSymbolAttr().getAttr());
          return range(plan::SlabKind::Weights, *weight.getOffset());
        })
        .Case([&](plan::AsyncCacheOp op) {
          auto cache = rankSymbols.lookup<plan::CacheOp>(op.getSymbolAttr().getAttr());
          return range(plan::SlabKind::Kv, *cache.getOffset());
        })
        .Case([&](plan::AsyncIoOp op) {
          auto io = rankSymbols.lookup<plan::IoOp>(op.getSymbolAttr().getAttr());
          return range(plan::SlabKind::Io, *io.getOffset() + op.getOffset());
        });
  }

  void rewrite() {
    OpBuilder builder(program.getContext());
    llvm::DenseMap<Value, int64_t> events;
    SmallVector<Operation *> old;
    for (Operation &op : *program.getBlock())
      old.push_back(&op);
    for (Operation *op : old) {
      builder.setInsertionPoint(op);
      Location loc = op->getLoc();
      TypeSwitch<Operation *>(op)
          .Case([&](plan::AsyncLaunchOp launch) {
            SmallVector<Attribute> args;
            for (Value arg : launch.getArgs())
              args.push_back(arg ? Attribute(rangeOf(arg)) : builder.getUnitAttr());
            plan::CmdLaunchOp::create(builder, loc, launch.getKernelAttr(),
                                      builder.getArrayAttr(args), launch.getStreamAttr(),
                                      launch.getLabelAttr());
          })
          .Case([&](plan::AsyncCollectiveOp collective) {
            plan::CmdCollectiveOp::create(
                builder, loc, collective.getKindAttr(), rangeOf(collective.getSource()),
                rangeOf(collective.getResult()), collective.getElementTypeAttr(),
                collective.getRanksAttr(), collective.getRootAttr(),
                collective.getCounts() ? rangeOf(collective.getCounts()) : plan::RangeAttr(),
                collective.getWidthAttr(), collective.getStreamAttr(), collective.getLabelAttr());
          })
          .Case([&](plan::AsyncRecordOp record) {
            int64_t event = events.size();
            events[record.getEvent()] = event;
            plan::CmdRecordOp::create(builder, loc, builder.getI64IntegerAttr(event),
                                      record.getStreamAttr());
          })
          .Case([&](plan::AsyncWaitOp wait) {
            plan::CmdWaitOp::create(builder, loc,
                                    builder.getI64IntegerAttr(events.at(wait.getEvent())),
                                    wait.getStreamAttr());
          });
    }
    for (Operation *op : llvm::reverse(old))
      op->erase();
    program.setArenaBytes(packing.arenaBytes);
    program.setLiveBytes(packing.liveBytes);
  }

  plan::ProgramOp program;
  SymbolTable &rankSymbols;
  const Kernels &kernels;
  llvm::MapVector<Value, Lifetime> lifetimes;
  llvm::DenseMap<Value, int64_t> offsets;
  MemoryPacking packing;
  bool isConcurrent = false;
};

struct PackMemoryPass : impl::PackMemoryBase<PackMemoryPass> {
  void runOnOperation() override {
    Kernels kernels(getOperation());
    for (plan::RankOp rank : getOperation().getOps<plan::RankOp>())
      if (failed(pack(rank, kernels)))
        return signalPassFailure();
  }

private:
  /// Places declarations one after the other; returns the size of their slab. The weights slab is
  /// the data section of a file, which ends with its last weight; the others are allocations.
  template <typename Range>
  static FailureOr<int64_t> place(Range declarations, plan::SlabKind kind) {
    int64_t alignment = plan::slabAlignment(kind), end = 0, used = 0;
    for (auto declaration : declarations) {
      declaration.setOffset(end);
      if (int64_t(declaration.getBytes()) > maxSlabBytes - end)
        return declaration.emitOpError("does not fit: the ")
               << plan::stringifySlabKind(kind) << " slab would exceed 2^50 bytes";
      used = end + declaration.getBytes();
      end = llvm::alignTo(used, alignment);
    }
    return kind == plan::SlabKind::Weights ? used : end;
  }

  LogicalResult pack(plan::RankOp rank, const Kernels &kernels) {
    if (rank.isPacked())
      return rank.emitOpError("is packed already");
    FailureOr<int64_t> weights = place(rank.getWeights(), plan::SlabKind::Weights);
    FailureOr<int64_t> caches = place(rank.getCaches(), plan::SlabKind::Kv);
    FailureOr<int64_t> io = place(rank.getIoBuffers(), plan::SlabKind::Io);
    if (failed(weights) || failed(caches) || failed(io))
      return failure();
    SymbolTable rankSymbols(rank);
    int64_t arena = 0;
    for (plan::ProgramOp program : rank.getPrograms()) {
      if (failed(ProgramPacker(program, rankSymbols, kernels).run()))
        return failure();
      arena = std::max<int64_t>(arena, *program.getArenaBytes());
    }
    OpBuilder builder = OpBuilder::atBlockBegin(rank.getBlock());
    const std::pair<plan::SlabKind, int64_t> slabs[] = {{plan::SlabKind::Weights, *weights},
                                                        {plan::SlabKind::Kv, *caches},
                                                        {plan::SlabKind::Arena, arena},
                                                        {plan::SlabKind::Io, *io}};
    for (auto [kind, bytes] : slabs)
      plan::SlabOp::create(builder, rank.getLoc(), kind, bytes, plan::slabAlignment(kind));
    return success();
  }
};

} // namespace
} // namespace sluice
