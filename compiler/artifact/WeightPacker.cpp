//===- WeightPacker.cpp - From numbers to the bytes kernels stream ----------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "compiler/artifact/WeightPacker.h"

#include "compiler/artifact/ElementConversion.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace sluice {

/// Source bytes of one piece: large enough that a read is sequential and threads seldom meet, small
/// enough that a few of them are nothing.
static constexpr int64_t kPieceBytes = int64_t(2) << 20;

static quant::ElementType quantType(DataType type) {
  return type == DataType::kF32    ? quant::ElementType::kF32
         : type == DataType::kBF16 ? quant::ElementType::kBF16
                                   : quant::ElementType::kF16;
}

static std::string describe(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

Result<WeightPacker> WeightPacker::create(std::string name, WeightEvaluator weight,
                                          std::string_view layoutName,
                                          std::string_view formatName) {
  WeightPacker packer(std::move(name), std::move(weight));
  SLUICE_ASSIGN_OR_RETURN(quant::WeightFormat format, quant::WeightFormat::parse(formatName));
  if (format.isQuantized())
    return invalidArgument("format " + format.name() +
                           " needs codes and scales; the weight is a matrix of numbers");
  DataType type = packer.evaluator.dtype();
  packer.rowMajor = layoutName == "row_major";
  if (packer.rowMajor) {
    packer.rowMajorType = format.element == quant::ElementType::kF32    ? DataType::kF32
                          : format.element == quant::ElementType::kBF16 ? DataType::kBF16
                                                                        : DataType::kF16;
    if (!canConvertElements(type, packer.rowMajorType))
      return unsupported(std::string("elements of type ") + dataTypeName(type) +
                         " cannot be stored as " + dataTypeName(packer.rowMajorType));
    return packer;
  }
  if (type != DataType::kF32 && type != DataType::kBF16 && type != DataType::kF16)
    return unsupported(std::string("elements of type ") + dataTypeName(type) +
                       " cannot be packed; expected F32, BF16 or F16");
  SLUICE_RETURN_IF_ERROR(packer.checkShape(layoutName, format));
  return packer;
}

Status WeightPacker::checkShape(std::string_view layoutName, const quant::WeightFormat &format) {
  const std::vector<int64_t> &shape = evaluator.shape();
  bool paired = layoutName == "gate_up_panel16";
  size_t rank = shape.size(), least = paired ? 3 : 2;
  if ((rank != least && rank != least + 1) || (paired && shape[rank - 3] != 2))
    return invalidArgument("shape " + describe(shape) + " does not fit layout " +
                           std::string(layoutName) + "; expected " +
                           (paired ? "[2, N, K] or [E, 2, N, K]" : "[N, K] or [E, N, K]"));
  SLUICE_ASSIGN_OR_RETURN(layout, quant::PackedLayout::create(layoutName, format, shape[rank - 2],
                                                              shape[rank - 1],
                                                              rank > least ? shape[0] : 1));
  return Status::ok();
}

Result<WeightPacker> WeightPacker::create(std::string name, const QuantizedParts &parts,
                                          const Checkpoint &checkpoint,
                                          std::string_view layoutName) {
  SLUICE_ASSIGN_OR_RETURN(quant::WeightFormat format, quant::parsePackable(parts.format));
  QuantizeSources shared;
  SLUICE_ASSIGN_OR_RETURN(WeightEvaluator codes,
                          WeightEvaluator::create(parts.codes, checkpoint, &shared));
  WeightPacker packer(std::move(name), std::move(codes));
  SLUICE_RETURN_IF_ERROR(packer.checkShape(layoutName, format));
  auto open = [&](mlir::TypedAttr expr, std::optional<WeightEvaluator> &out) -> Status {
    if (!expr)
      return Status::ok();
    SLUICE_ASSIGN_OR_RETURN(WeightEvaluator part,
                            WeightEvaluator::create(expr, checkpoint, &shared));
    if (!canConvertElements(part.dtype(), DataType::kF32))
      return unsupported(std::string("scales of type ") + dataTypeName(part.dtype()) +
                         " cannot be packed");
    out = std::move(part);
    return Status::ok();
  };
  SLUICE_RETURN_IF_ERROR(open(parts.scales, packer.scales));
  SLUICE_RETURN_IF_ERROR(open(parts.zeros, packer.zeros));
  SLUICE_RETURN_IF_ERROR(open(parts.rowScales, packer.rowScales));
  packer.origin = parts.origin;
  return packer;
}

uint64_t WeightPacker::totalBytes() const {
  return rowMajor ? uint64_t(evaluator.numElements()) * uint64_t(dataTypeBits(rowMajorType) / 8)
                  : layout.totalBytes();
}

std::vector<WeightPacker::Piece> WeightPacker::pieces() const {
  std::vector<Piece> result;
  if (rowMajor) {
    int64_t step = kPieceBytes / evaluator.elementBytes(), end = evaluator.numElements();
    for (int64_t begin = 0; begin < end; begin += step)
      result.push_back({0, begin, std::min(step, end - begin)});
    return result;
  }
  int64_t rowBytes = layout.k() * evaluator.elementBytes() * (layout.isPaired() ? 2 : 1);
  int64_t panels = std::max<int64_t>(1, kPieceBytes / (rowBytes * quant::kPanelRows));
  int64_t step = panels * quant::kPanelRows;
  for (int64_t blob = 0; blob < layout.blobs(); ++blob)
    for (int64_t begin = 0; begin < layout.n(); begin += step)
      result.push_back({blob, begin, std::min(step, layout.n() - begin)});
  return result;
}

Status WeightPacker::pack(const Piece &piece, std::vector<std::byte> &out) const {
  int64_t sourceBytes = evaluator.elementBytes();
  if (rowMajor) {
    int64_t storedBytes = dataTypeBits(rowMajorType) / 8;
    out.resize(size_t(piece.count * storedBytes));
    if (evaluator.dtype() == rowMajorType)
      return evaluator.read(piece.begin, piece.count, out.data());
    std::vector<std::byte> source(size_t(piece.count * sourceBytes));
    SLUICE_RETURN_IF_ERROR(evaluator.read(piece.begin, piece.count, source.data()));
    convertElements(evaluator.dtype(), source.data(), rowMajorType, out.data(), piece.count);
    return Status::ok();
  }
  out.resize(layout.bytesOfRows(piece.begin, piece.count));
  int64_t elements = piece.count * layout.k();
  std::vector<std::byte> source(scales ? 0 : size_t(elements * sourceBytes));
  auto packRole = [&](quant::PanelRole role, int64_t matrix) -> Status {
    if (scales)
      return packQuantizedRows(role, matrix, piece, out);
    int64_t first = (matrix * layout.n() + piece.begin) * layout.k();
    SLUICE_RETURN_IF_ERROR(evaluator.read(first, elements, source.data()));
    return layout.packRows(role, piece.begin, piece.count,
                           {source.data(), quantType(evaluator.dtype()), layout.k()}, out);
  };
  if (!layout.isPaired())
    return packRole(quant::PanelRole::kOnly, piece.blob);
  SLUICE_RETURN_IF_ERROR(packRole(quant::PanelRole::kGate, 2 * piece.blob));
  return packRole(quant::PanelRole::kUp, 2 * piece.blob + 1);
}

/// Elements [begin, begin + count) as float32.
static Status readFloats(const WeightEvaluator &part, int64_t begin, int64_t count,
                         std::vector<float> &out) {
  std::vector<std::byte> bytes(size_t(count * part.elementBytes()));
  SLUICE_RETURN_IF_ERROR(part.read(begin, count, bytes.data()));
  out.resize(size_t(count));
  convertElements(part.dtype(), bytes.data(), DataType::kF32,
                  reinterpret_cast<std::byte *>(out.data()), count);
  return Status::ok();
}

Status WeightPacker::packQuantizedRows(quant::PanelRole role, int64_t matrix, const Piece &piece,
                                       std::vector<std::byte> &out) const {
  const quant::WeightFormat &format = layout.format();
  int64_t row = matrix * layout.n() + piece.begin, rows = piece.count;
  int64_t groups = format.groupsPerRow(layout.k());
  std::vector<std::byte> codes(size_t(rows * layout.k()));
  SLUICE_RETURN_IF_ERROR(evaluator.read(row * layout.k(), rows * layout.k(), codes.data()));
  if (evaluator.dtype() == DataType::kU8 && format.element == quant::ElementType::kI8)
    for (std::byte &code : codes)
      code = std::byte(int(code) - int(origin));
  std::vector<float> scaleValues, zeroValues, rowValues;
  SLUICE_RETURN_IF_ERROR(readFloats(*scales, row * groups, rows * groups, scaleValues));
  quant::SourceRows source{codes.data(), format.element, layout.k(), scaleValues.data(), groups};
  std::vector<uint8_t> zeroPoints;
  if (format.zeroPoint) {
    zeroPoints.assign(size_t(rows * groups), uint8_t(origin));
    if (zeros) {
      SLUICE_RETURN_IF_ERROR(readFloats(*zeros, row * groups, rows * groups, zeroValues));
      for (size_t i = 0; i < zeroPoints.size(); ++i)
        zeroPoints[i] = uint8_t(int64_t(zeroValues[i]) + origin);
    }
    source.zeros = zeroPoints.data();
  }
  if (format.hasRowScale()) {
    rowValues.assign(size_t(rows), 1.0f);
    if (rowScales)
      SLUICE_RETURN_IF_ERROR(readFloats(*rowScales, row, rows, rowValues));
    source.rowScales = rowValues.data();
  }
  return layout.packRows(role, piece.begin, rows, source, out);
}

namespace {

/// The pieces of all weights, packed ahead by threads and taken in order.
class Pipeline {
public:
  Pipeline(std::span<const WeightPacker> weights, unsigned threads)
      : weights(weights), slots(2 * std::max(threads, 1u)) {
    for (uint32_t i = 0; i < weights.size(); ++i)
      for (const WeightPacker::Piece &piece : weights[i].pieces())
        tasks.push_back({i, piece});
    for (unsigned i = 0; i < std::max(threads, 1u); ++i)
      workers.emplace_back([this] { work(); });
  }
  ~Pipeline() {
    {
      std::lock_guard lock(mutex);
      stopped = true;
    }
    changed.notify_all();
    for (std::thread &worker : workers)
      worker.join();
  }

  Status
  drain(const std::function<Status(const WeightPacker &, std::span<const std::byte>)> &sink) {
    for (size_t task = 0; task < tasks.size(); ++task) {
      Slot &slot = slots[task % slots.size()];
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return slot.ready; });
      }
      const WeightPacker &weight = weights[tasks[task].weight];
      if (!slot.status.isOk())
        return slot.status.withContext("weight \"" + weight.name() + "\"");
      SLUICE_RETURN_IF_ERROR(sink(weight, slot.bytes));
      {
        std::lock_guard lock(mutex);
        slot.ready = false;
        ++taken;
      }
      changed.notify_all();
    }
    return Status::ok();
  }

private:
  struct Task {
    uint32_t weight;
    WeightPacker::Piece piece;
  };
  /// Owned by the worker that claimed its task until ready, then by drain().
  struct Slot {
    std::vector<std::byte> bytes;
    Status status;
    bool ready = false;
  };

  void work() {
    for (;;) {
      size_t task;
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] {
          return stopped || (claimed < tasks.size() && claimed < taken + slots.size());
        });
        if (stopped)
          return;
        task = claimed++;
      }
      Slot &slot = slots[task % slots.size()];
      slot.status = weights[tasks[task].weight].pack(tasks[task].piece, slot.bytes);
      {
        std::lock_guard lock(mutex);
        slot.ready = true;
      }
      changed.notify_all();
    }
  }

  std::span<const WeightPacker> weights;
  std::vector<Task> tasks;
  std::vector<Slot> slots;
  std::vector<std::thread> workers;
  std::mutex mutex;
  std::condition_variable changed;
  size_t claimed = 0, taken = 0; ///< guarded by mutex, as are `ready` of slots and `stopped`
  bool stopped = false;
};

} // namespace

Status
packWeights(std::span<const WeightPacker> weights, unsigned threads,
            const std::function<Status(const WeightPacker &, std::span<const std::byte>)> &sink) {
  return Pipeline(weights, threads).drain(sink);
}

} // namespace sluice
