//===- PlanVerifiers.cpp - Constraints of `plan` ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Constraints are numbered as in PlanOps.td. What one operation can check alone is in its own
// verifier; what needs kernels, slabs or symbols is checked by the program around it, because a
// program launches the same kernel dozens of times and parsing its parameters is the costly part.
//
//===----------------------------------------------------------------------===//
#include "dialects/Plan/Plan.h"

#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace sluice::plan {

static InFlightDiagnostic fail(Operation *op, int constraint) {
  return op->emitOpError("C") << constraint << ": ";
}

/// The outermost symbol table: kernels and model weights live there.
static ModuleOp moduleOf(Operation *op) { return op->getParentOfType<ModuleOp>(); }

//===----------------------------------------------------------------------===//
// Declarations
//===----------------------------------------------------------------------===//

LogicalResult KernelOp::verify() {
  auto params = getFamilyParams();
  if (!params.isOk())
    return fail(*this, 1) << params.status().message();
  return success();
}

LogicalResult SlabOp::verify() {
  int64_t alignment = getAlignment();
  if (alignment < 64 || !llvm::isPowerOf2_64(alignment))
    return fail(*this, 1) << "alignment " << alignment << " is not a power of two of at least 64";
  return success();
}

/// Checks an offset against the alignment and the bounds of the rank's slab of `kind`.
static LogicalResult verifyPlace(Operation *op, SlabKind kind, std::optional<int64_t> offset,
                                 int64_t bytes, int firstConstraint) {
  if (!offset)
    return success();
  int64_t alignment = slabAlignment(kind);
  if (*offset % alignment != 0)
    return fail(op, firstConstraint)
           << "offset " << *offset << " is not a multiple of " << alignment;
  auto rank = cast<RankOp>(op->getParentOp());
  SlabOp slab = rank.getSlab(kind);
  int64_t slabBytes = slab ? slab.getBytes() : 0;
  if (*offset > slabBytes || bytes > slabBytes - *offset)
    return fail(op, firstConstraint + 1)
           << bytes << " bytes at offset " << *offset << " exceed the " << slabBytes
           << " bytes of the " << stringifySlabKind(kind) << " slab";
  return success();
}

LogicalResult WeightOp::verify() {
  // An unknown layout or format is known without the model's weight; a shape that every layout
  // takes stands in for it.
  SmallVector<int64_t> anyShape = {1, 1};
  if (getLayout() == "gate_up_panel16")
    anyShape = {2, 1, 1};
  if (auto bytes = weightBytes(getLayout(), getFormat(), anyShape); !bytes.isOk())
    return fail(*this, 1) << bytes.status().message();
  return verifyPlace(*this, SlabKind::Weights, getOffset(), getBytes(), 4);
}

LogicalResult WeightOp::verifySymbolUses(SymbolTableCollection &symbols) {
  auto source = symbols.lookupSymbolIn<moe::WeightOp>(moduleOf(*this), getFromAttr().getAttr());
  if (!source)
    return fail(*this, 2) << "there is no moe.weight " << getFromAttr();
  auto shape = cast<RankedTensorType>(source.getType()).getShape();
  auto bytes = weightBytes(getLayout(), getFormat(), shape);
  if (!bytes.isOk())
    return fail(*this, 2) << bytes.status().message();
  if (*bytes != uint64_t(getBytes()))
    return fail(*this, 3) << "bytes = " << getBytes() << ", but " << getFromAttr() << " takes "
                          << *bytes << " in layout \"" << getLayout() << "\"";
  return success();
}

LogicalResult CacheOp::verify() {
  return verifyPlace(*this, SlabKind::Kv, getOffset(), getBytes(), 1);
}

LogicalResult IoOp::verify() {
  return verifyPlace(*this, SlabKind::Io, getOffset(), getBytes(), 1);
}

LogicalResult RankOp::verifyRegions() {
  for (RankOp other : moduleOf(*this).getOps<RankOp>()) {
    if (other == *this)
      break;
    if (other.getNumber() == getNumber())
      return fail(*this, 1) << "number " << getNumber() << " is also that of @"
                            << other.getSymName();
  }
  llvm::SmallDenseSet<int> kinds;
  for (SlabOp slab : getSlabs())
    if (!kinds.insert(int(slab.getKind())).second)
      return slab.emitOpError("is the second ")
             << stringifySlabKind(slab.getKind()) << " slab; plan.rank C2 allows one of each kind";
  int64_t previous = 0;
  bool packed = isPacked();
  for (ProgramOp program : getPrograms()) {
    if (int64_t(program.getTokens()) <= previous)
      return fail(*this, 3) << "program of " << program.getTokens() << " tokens follows one of "
                            << previous << "; token counts must ascend";
    previous = program.getTokens();
    if (program.isPacked() != packed)
      return fail(*this, 4) << "@" << program.getSymName() << " is "
                            << (packed ? "not packed, but others are"
                                       : "packed, but others are not");
  }
  auto checkOffset = [&](Operation *op, StringRef name, bool hasOffset) -> LogicalResult {
    if (hasOffset == packed)
      return success();
    return fail(*this, 4) << op->getName() << " @" << name
                          << (packed ? " needs an offset in a packed rank"
                                     : " has an offset, but the rank is not packed");
  };
  for (WeightOp op : getWeights())
    if (failed(checkOffset(op, op.getSymName(), op.getOffset().has_value())))
      return failure();
  for (CacheOp op : getCaches())
    if (failed(checkOffset(op, op.getSymName(), op.getOffset().has_value())))
      return failure();
  for (IoOp op : getIoBuffers())
    if (failed(checkOffset(op, op.getSymName(), op.getOffset().has_value())))
      return failure();
  if (!packed && !getSlabs().empty())
    return fail(*this, 4) << "has slabs, but its programs are not packed";
  return success();
}

//===----------------------------------------------------------------------===//
// Operations of a program on their own
//===----------------------------------------------------------------------===//

LogicalResult AsyncLaunchOp::verify() {
  if (size_t(llvm::count(getPresent(), true)) != getBuffers().size())
    return emitOpError("has ") << getBuffers().size() << " buffers for "
                               << llvm::count(getPresent(), true) << " present arguments";
  return success();
}

LogicalResult CmdLaunchOp::verify() {
  for (Attribute arg : getArgs())
    if (!isa<RangeAttr, UnitAttr>(arg))
      return emitOpError("argument ") << arg << " is neither a #plan.range nor absent (unit)";
  return success();
}

/// C1, C3 - C6 of both collectives; `countsBytes` is 0 without counts.
template <typename CollectiveOp>
static LogicalResult verifyCollective(CollectiveOp op, int64_t sourceBytes, int64_t resultBytes,
                                      int64_t countsBytes) {
  ArrayRef<int64_t> ranks = op.getRanks();
  llvm::SmallDenseSet<int64_t> distinct;
  for (int64_t rank : ranks)
    if (rank < 0 || !distinct.insert(rank).second)
      return fail(op, 1) << "rank " << rank << (rank < 0 ? " is negative" : " appears twice");
  if (ranks.empty())
    return fail(op, 1) << "there are no ranks";
  bool isBroadcast = op.getKind() == CollectiveKind::Broadcast;
  if (isBroadcast != op.getRoot().has_value())
    return fail(op, 3) << stringifyCollectiveKind(op.getKind())
                       << (isBroadcast ? " needs a root" : " has no root");
  if (isBroadcast && !distinct.contains(*op.getRoot()))
    return fail(op, 3) << "root " << *op.getRoot() << " is not among the ranks";

  Type element = op.getElementType();
  if (!element.isIntOrFloat() || element.getIntOrFloatBitWidth() % 8 != 0)
    return fail(op, 5) << "elements of type " << element << " do not fill whole bytes";
  int64_t elementBytes = element.getIntOrFloatBitWidth() / 8;
  int64_t n = ranks.size(), sourceParts = 1, resultParts = 1;
  bool isGather = op.getKind() == CollectiveKind::AllGather;
  bool isScatter = op.getKind() == CollectiveKind::ReduceScatter;
  if (op.getWidth().has_value() != (countsBytes != 0) ||
      (countsBytes != 0 && !isGather && !isScatter))
    return fail(op, 6) << "rows need counts and a width, and only all_gather and reduce_scatter "
                          "take them";
  if (countsBytes != 0) {
    if (countsBytes != 4 * n)
      return fail(op, 6) << "counts have " << countsBytes << " bytes, expected 4 for each of " << n
                         << " ranks";
    int64_t rowBytes;
    if (sourceBytes != resultBytes ||
        llvm::MulOverflow(int64_t(*op.getWidth()), elementBytes, rowBytes) ||
        sourceBytes % rowBytes != 0)
      return fail(op, 6) << "buffers of " << sourceBytes << " and " << resultBytes
                         << " bytes do not hold equally many rows of " << *op.getWidth() << " "
                         << element << " elements";
    return success();
  }
  if (isGather)
    resultParts = n;
  else if (isScatter)
    sourceParts = n;
  int64_t parts = op.getKind() == CollectiveKind::AllToAll ? n : 1;
  int64_t part = sourceBytes / sourceParts;
  int64_t expected;
  if (sourceBytes % sourceParts != 0 || llvm::MulOverflow(part, resultParts, expected) ||
      expected != resultBytes)
    return fail(op, 4) << stringifyCollectiveKind(op.getKind()) << " among " << n
                       << " ranks cannot turn " << sourceBytes << " bytes into " << resultBytes;
  if (part % parts != 0 || part / parts % elementBytes != 0)
    return fail(op, 5) << part << " bytes are not " << parts << " parts of whole " << element
                       << " elements";
  return success();
}

LogicalResult AsyncCollectiveOp::verify() {
  Value counts = getCounts();
  return verifyCollective(*this, getSource().getType().getBytes(), getResult().getType().getBytes(),
                          counts ? cast<BufferType>(counts.getType()).getBytes() : 0);
}

LogicalResult CmdCollectiveOp::verify() {
  return verifyCollective(*this, getSource().getBytes(), getResult().getBytes(),
                          getCounts() ? getCounts()->getBytes() : 0);
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

LogicalResult ProgramOp::verify() {
  if (getArenaBytes().has_value() != getLiveBytes().has_value())
    return fail(*this, 2) << "arena and live bytes belong together";
  if (getLiveBytes() && *getLiveBytes() > *getArenaBytes())
    return fail(*this, 2) << "live = " << *getLiveBytes()
                          << " exceeds arena = " << *getArenaBytes();
  return success();
}

static bool isCmd(Operation *op) {
  return isa<CmdLaunchOp, CmdRecordOp, CmdWaitOp, CmdCollectiveOp>(op);
}

LogicalResult ProgramOp::verifyRegions() {
  Operation *first = nullptr;
  for (Operation &op : *getBlock()) {
    if (op.getDialect() != (*this)->getDialect())
      return fail(*this, 1) << "'" << op.getName() << "' is not an operation of programs";
    if (!first)
      first = &op;
    if (isCmd(&op) != isCmd(first))
      return fail(*this, 1) << "'" << op.getName() << "' stands beside '" << first->getName()
                            << "'; a program is either plan.async or plan.cmd";
  }
  if (first && isCmd(first) != isPacked())
    return fail(*this, 2) << (isPacked() ? "arena and live bytes are given before packing"
                                         : "arena and live bytes are missing after packing");
  return success();
}

namespace {

/// Checks the operations of one program against what the module and the rank declare.
class ProgramChecker {
public:
  ProgramChecker(ProgramOp program, SymbolTableCollection &symbols)
      : program(program), rank(program.getRank()), symbols(symbols) {
    for (SlabOp slab : rank.getSlabs())
      slabBytes[int(slab.getKind())] = slab.getBytes();
    if (program.isPacked())
      slabBytes[int(SlabKind::Arena)] =
          std::min<int64_t>(slabBytes[int(SlabKind::Arena)], *program.getArenaBytes());
    if (IoOp counts = symbols.lookupSymbolIn<IoOp>(rank, nameOf("expert_counts")))
      countsRange = {int64_t(counts.getOffset().value_or(0)), int64_t(counts.getBytes())};
  }

  LogicalResult check() {
    FailureOr<abi::StepDims> stepDims = program.getStepDims();
    if (failed(stepDims))
      return fail(program, 3) << "the module's moe.limits are missing, or allow fewer than "
                              << program.getTokens() << " tokens";
    dims = *stepDims;
    for (Operation &op : *program.getBlock())
      if (failed(checkOp(&op)))
        return failure();
    return success();
  }

private:
  struct Kernel {
    abi::FamilyParams params;
    std::vector<uint64_t> bytes;
  };

  StringAttr nameOf(StringRef name) { return StringAttr::get(program.getContext(), name); }

  LogicalResult checkOp(Operation *op) {
    if (auto weight = dyn_cast<AsyncWeightOp>(op))
      return checkWhole<WeightOp>(weight);
    if (auto cache = dyn_cast<AsyncCacheOp>(op))
      return checkWhole<CacheOp>(cache);
    if (auto io = dyn_cast<AsyncIoOp>(op))
      return checkIo(io);
    if (auto launch = dyn_cast<AsyncLaunchOp>(op))
      return checkLaunch(launch);
    if (auto launch = dyn_cast<CmdLaunchOp>(op))
      return checkLaunch(launch);
    if (auto collective = dyn_cast<AsyncCollectiveOp>(op))
      return checkRanks(op, collective.getRanks());
    if (auto collective = dyn_cast<CmdCollectiveOp>(op))
      return checkCollective(collective);
    if (auto record = dyn_cast<CmdRecordOp>(op))
      if (!events.insert(record.getEvent()).second)
        return fail(op, 1) << "event " << record.getEvent() << " is recorded twice";
    if (auto wait = dyn_cast<CmdWaitOp>(op))
      if (!events.contains(wait.getEvent()))
        return fail(op, 1) << "event " << wait.getEvent() << " is not recorded before";
    return success();
  }

  template <typename DeclarationOp, typename ViewOp> LogicalResult checkWhole(ViewOp view) {
    auto declared = symbols.lookupSymbolIn<DeclarationOp>(rank, view.getSymbolAttr().getAttr());
    if (!declared)
      return fail(view, 1) << "there is no " << DeclarationOp::getOperationName() << " "
                           << view.getSymbolAttr() << " in @" << rank.getSymName();
    int64_t bytes = view.getResult().getType().getBytes();
    if (bytes != int64_t(declared.getBytes()))
      return fail(view, 2) << "buffer of " << bytes << " bytes, but " << view.getSymbolAttr()
                           << " has " << declared.getBytes();
    return success();
  }

  LogicalResult checkIo(AsyncIoOp view) {
    auto declared = symbols.lookupSymbolIn<IoOp>(rank, view.getSymbolAttr().getAttr());
    if (!declared)
      return fail(view, 1) << "there is no plan.io " << view.getSymbolAttr() << " in @"
                           << rank.getSymName();
    int64_t bytes = view.getResult().getType().getBytes(), offset = view.getOffset();
    int64_t limit = declared.getBytes();
    if (offset > limit || bytes > limit - offset)
      return fail(view, 2) << bytes << " bytes at offset " << offset << " exceed the " << limit
                           << " bytes of " << view.getSymbolAttr();
    return success();
  }

  /// Parses a kernel once per program.
  FailureOr<const Kernel *> kernelOf(Operation *op, FlatSymbolRefAttr name) {
    auto [entry, isNew] = kernels.try_emplace(name.getAttr());
    if (isNew) {
      auto kernel = symbols.lookupSymbolIn<KernelOp>(moduleOf(program), name.getAttr());
      if (!kernel)
        return fail(op, 1) << "there is no plan.kernel " << name;
      auto params = kernel.getFamilyParams();
      if (!params.isOk())
        return fail(op, 1) << name << ": " << params.status().message();
      auto bytes = abi::familyArgBytes(*params, dims);
      if (!bytes.isOk())
        return fail(op, 4) << name << ": " << bytes.status().message();
      entry->second = {std::move(*params), std::move(*bytes)};
    }
    return &entry->second;
  }

  /// C2 - C4; `bytes` has -1 for an absent argument.
  LogicalResult checkSizes(Operation *op, const Kernel &kernel, ArrayRef<int64_t> bytes) {
    const std::vector<abi::ArgSpec> &specs = abi::familyArgs(kernel.params);
    if (bytes.size() != specs.size())
      return fail(op, 2) << bytes.size() << " arguments, but " << abi::familyName(kernel.params)
                         << " takes " << specs.size();
    for (auto [index, spec] : llvm::enumerate(specs)) {
      uint64_t needed = kernel.bytes[index];
      if ((bytes[index] < 0) != (needed == 0))
        return fail(op, 3) << "argument " << index << " '" << spec.name
                           << (needed == 0 ? "' must be none: the kernel's parameters exclude it"
                                           : "' is none, but the kernel needs it");
      if (needed != 0 && uint64_t(bytes[index]) < needed)
        return fail(op, 4) << "argument " << index << " '" << spec.name << "' has " << bytes[index]
                           << " bytes, but the kernel needs " << needed << " for "
                           << program.getTokens() << " tokens";
    }
    return success();
  }

  LogicalResult checkLaunch(AsyncLaunchOp op) {
    FailureOr<const Kernel *> kernel = kernelOf(op, op.getKernelAttr());
    if (failed(kernel))
      return failure();
    SmallVector<int64_t> bytes;
    for (Value arg : op.getArgs())
      bytes.push_back(arg ? cast<BufferType>(arg.getType()).getBytes() : -1);
    return checkSizes(op, **kernel, bytes);
  }

  LogicalResult checkLaunch(CmdLaunchOp op) {
    FailureOr<const Kernel *> kernel = kernelOf(op, op.getKernelAttr());
    if (failed(kernel))
      return failure();
    SmallVector<RangeAttr> ranges = op.getRanges();
    SmallVector<int64_t> bytes;
    for (RangeAttr range : ranges)
      bytes.push_back(range ? range.getBytes() : -1);
    if (failed(checkSizes(op, **kernel, bytes)))
      return failure();
    for (RangeAttr range : ranges)
      if (range && (failed(checkBounds(op, range, 5)) || failed(checkAlignment(op, range))))
        return failure();
    return checkWrites(op, (*kernel)->params, ranges);
  }

  LogicalResult checkBounds(Operation *op, RangeAttr range, int constraint) {
    int64_t limit = slabBytes[int(range.getSlab())];
    if (range.getEnd() > limit)
      return fail(op, constraint) << rangeText(range) << " exceeds the " << limit
                                  << " bytes of the slab";
    return success();
  }

  LogicalResult checkAlignment(Operation *op, RangeAttr range) {
    int64_t alignment = slabAlignment(range.getSlab());
    bool movable = range.getSlab() == SlabKind::Arena || range.getSlab() == SlabKind::Io;
    bool isCounts = range.getSlab() == SlabKind::Io && range.getOffset() >= countsRange.first &&
                    range.getEnd() <= countsRange.first + countsRange.second;
    if (movable && !isCounts && range.getOffset() % alignment != 0)
      return fail(op, 6) << rangeText(range) << " does not begin at a multiple of " << alignment;
    return success();
  }

  /// C7 and C8.
  LogicalResult checkWrites(CmdLaunchOp op, const abi::FamilyParams &params,
                            ArrayRef<RangeAttr> ranges) {
    const std::vector<abi::ArgSpec> &specs = abi::familyArgs(params);
    for (size_t i = 0; i < ranges.size(); ++i) {
      if (!ranges[i] || specs[i].access == abi::ArgAccess::kRead)
        continue;
      if (ranges[i].getSlab() == SlabKind::Weights)
        return fail(op, 8) << "argument " << i << " '" << specs[i].name
                           << "' is written, but weights are read only";
      std::optional<unsigned> replaced = replaceableArg(params, i);
      for (size_t j = 0; j < ranges.size(); ++j) {
        if (i == j || !ranges[j] || !overlap(ranges[i], ranges[j]))
          continue;
        if (replaced != j || ranges[i].getOffset() != ranges[j].getOffset())
          return fail(op, 7) << "argument " << i << " '" << specs[i].name << "' "
                             << rangeText(ranges[i]) << " is written and overlaps argument " << j
                             << " '" << specs[j].name << "' " << rangeText(ranges[j]);
      }
    }
    return success();
  }

  LogicalResult checkRanks(Operation *op, ArrayRef<int64_t> ranks) {
    if (!llvm::is_contained(ranks, int64_t(rank.getNumber())))
      return fail(op, 2) << "rank " << rank.getNumber() << " of the program is not among the ranks";
    return success();
  }

  LogicalResult checkCollective(CmdCollectiveOp op) {
    if (failed(checkRanks(op, op.getRanks())) || failed(checkBounds(op, op.getSource(), 7)) ||
        failed(checkBounds(op, op.getResult(), 7)) ||
        (op.getCounts() && failed(checkBounds(op, *op.getCounts(), 7))))
      return failure();
    if (op.getResult().getSlab() == SlabKind::Weights)
      return fail(op, 8) << "weights are read only";
    if ((op.getSource() != op.getResult() && overlap(op.getSource(), op.getResult())))
      return fail(op, 8) << rangeText(op.getSource()) << " and " << rangeText(op.getResult())
                         << " overlap in part";
    if (op.getCounts() && overlap(*op.getCounts(), op.getResult()))
      return fail(op, 8) << rangeText(*op.getCounts()) << " and " << rangeText(op.getResult())
                         << " overlap in part";
    return success();
  }

  static bool overlap(RangeAttr a, RangeAttr b) {
    return a.getSlab() == b.getSlab() && a.getOffset() < b.getEnd() && b.getOffset() < a.getEnd();
  }

  static std::string rangeText(RangeAttr range) {
    return (stringifySlabKind(range.getSlab()) + "[" + Twine(range.getOffset()) + " for " +
            Twine(range.getBytes()) + "]")
        .str();
  }

  ProgramOp program;
  RankOp rank;
  SymbolTableCollection &symbols;
  abi::StepDims dims;
  int64_t slabBytes[4] = {};
  std::pair<int64_t, int64_t> countsRange = {0, 0};
  llvm::DenseMap<StringAttr, Kernel> kernels;
  llvm::DenseSet<uint64_t> events;
};

} // namespace

LogicalResult ProgramOp::verifySymbolUses(SymbolTableCollection &symbols) {
  return ProgramChecker(*this, symbols).check();
}

} // namespace sluice::plan
