//===- QuantizedWeights.cpp - Codes and scales of an expression -------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Works from the leaves up. What a node does to numbers is done to codes as it is; scales follow on
// a coarser grid of blocks, `blockRows` x `group`. Keeping the grid of 128 x 128 checkpoints (and
// of one scale per tensor) until the end is what lets the last two axes be exchanged, as latent
// attention does. Where a node would cut a block of rows, the grid is refined to single rows first;
// columns are only ever refined to a common divisor, because a group cannot be cut.
//
//===----------------------------------------------------------------------===//
#include "passes/Analysis/QuantizedWeights.h"

#include "runtime/quant/WeightFormat.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

#include <functional>
#include <numeric>
#include <utility>

using namespace mlir;

namespace sluice {
namespace {

using Shape = SmallVector<int64_t>;

RankedTensorType typeOf(TypedAttr expr) { return moe::getWeightType(expr); }
ArrayRef<int64_t> shapeOf(TypedAttr expr) { return typeOf(expr).getShape(); }

TypedAttr asTyped(Attribute attr) { return cast<TypedAttr>(attr); }

TypedAttr repeat(TypedAttr operand, int64_t axis, int64_t times, int64_t size) {
  if (times == 1 && shapeOf(operand)[axis] == size)
    return operand;
  return asTyped(moe::RepeatAttr::get(operand.getContext(), operand, axis, times, size));
}
TypedAttr reshape(TypedAttr operand, ArrayRef<int64_t> shape) {
  if (shapeOf(operand) == shape)
    return operand;
  return asTyped(
      moe::ReshapeAttr::get(operand.getContext(), operand, typeOf(operand).clone(shape)));
}
/// The part of the columns' own quantisation where that is the same as the columns of the whole
/// one's: scales of rows that are cut need not be searched for again and again. Null otherwise.
TypedAttr sliceColumns(moe::QuantizeAttr node, int64_t begin, int64_t size) {
  using moe::QuantizePart;
  int64_t rank = typeOf(node.getOperand()).getRank();
  int64_t columns = shapeOf(node.getOperand()).back(), block = node.getBlockColumns();
  if (block == columns || node.getFormat().getValue() == "nvfp4") // scales follow from whole rows
    return {};
  bool codes = node.getPart() == QuantizePart::Codes;
  int64_t first = codes ? begin : begin * block;
  int64_t count = codes ? size : std::min(size * block, columns - first);
  if (first % block != 0 || (count % block != 0 && first + count != columns))
    return {};
  auto source = asTyped(moe::SliceAttr::get(node.getContext(), node.getOperand(), rank - 1, first,
                                            count, /*stride=*/1));
  return asTyped(
      moe::QuantizeAttr::get(node.getContext(), source, node.getFormat(), node.getPart()));
}

TypedAttr slice(TypedAttr operand, int64_t axis, int64_t begin, int64_t size, int64_t stride = 1) {
  if (begin == 0 && shapeOf(operand)[axis] == size)
    return operand;
  if (auto node = dyn_cast<moe::QuantizeAttr>(operand);
      node && axis == typeOf(operand).getRank() - 1 && stride == 1)
    if (TypedAttr part = sliceColumns(node, begin, size))
      return part;
  return asTyped(moe::SliceAttr::get(operand.getContext(), operand, axis, begin, size, stride));
}

/// A quantised expression on its way up. Scales and zeros are [..., ceil(N / blockRows),
/// ceil(K / group)]; row scales [..., ceil(N / rowScaleRows), 1].
struct Grid {
  TypedAttr codes, scales, zeros, rowScales;
  int64_t blockRows = 1, rowScaleRows = 1, group = 1, origin = 0;

  int64_t rank() const { return typeOf(codes).getRank(); }
  int64_t rows() const { return shapeOf(codes)[rank() - 2]; }
  int64_t columns() const { return shapeOf(codes).back(); }
  bool isChannel() const { return group >= columns(); }

  /// Applies `change` to scales and zeros.
  void changeScales(llvm::function_ref<TypedAttr(TypedAttr)> change) {
    scales = change(scales);
    if (zeros)
      zeros = change(zeros);
  }
  /// One row of scales per row of codes.
  void refineRows() {
    if (blockRows != 1)
      changeScales([&](TypedAttr part) { return repeat(part, rank() - 2, blockRows, rows()); });
    if (rowScales && rowScaleRows != 1)
      rowScales = repeat(rowScales, rank() - 2, rowScaleRows, rows());
    blockRows = rowScaleRows = 1;
  }
  /// Groups of `size` columns, a divisor of the present ones.
  void refineColumns(int64_t size) {
    if (group == size)
      return;
    int64_t count = llvm::divideCeil(columns(), size);
    changeScales([&](TypedAttr part) { return repeat(part, rank() - 1, group / size, count); });
    group = size;
  }
};

using MaybeGrid = std::optional<Grid>;

MaybeGrid gridOf(TypedAttr expr);

/// A repetition along the rows is the grid itself, not a reason to store scales per row.
std::pair<TypedAttr, int64_t> peelRows(TypedAttr scales) {
  auto node = dyn_cast<moe::RepeatAttr>(scales);
  if (!node || node.getAxis() != typeOf(scales).getRank() - 2)
    return {scales, 1};
  return {node.getOperand(), node.getTimes()};
}

MaybeGrid gridOf(moe::DequantizeAttr node) {
  Grid grid;
  if (typeOf(node.getCodes()).getElementType().isF32()) {
    // The second level of scales, one per row or tensor.
    MaybeGrid inner = gridOf(node.getCodes());
    if (!inner || inner->rowScales || node.getGroup() < inner->columns())
      return std::nullopt;
    std::tie(inner->rowScales, inner->rowScaleRows) = peelRows(node.getScales());
    return inner;
  }
  grid.codes = node.getCodes();
  grid.zeros = node.getZeros();
  grid.group = node.getGroup();
  grid.origin = node.getOrigin();
  std::tie(grid.scales, grid.blockRows) =
      grid.zeros ? std::pair(node.getScales(), int64_t(1)) : peelRows(node.getScales());
  return grid;
}

MaybeGrid gridOf(moe::QuantizeAttr node) {
  using moe::QuantizePart;
  auto format = quant::WeightFormat::parse(node.getFormat().getValue().str());
  if (node.getPart() != QuantizePart::Numbers || !format.isOk())
    return std::nullopt;
  Grid grid;
  grid.codes = node.withPart(QuantizePart::Codes);
  grid.scales = node.withPart(QuantizePart::Scales);
  if (format->zeroPoint)
    grid.zeros = node.withPart(QuantizePart::Zeros);
  if (format->hasRowScale())
    grid.rowScales = node.withPart(QuantizePart::RowScales);
  grid.blockRows = node.getBlockRows();
  grid.group = node.getBlockColumns();
  return grid;
}

MaybeGrid gridOf(moe::SliceAttr node) {
  MaybeGrid grid = gridOf(node.getOperand());
  if (!grid)
    return std::nullopt;
  int64_t axis = node.getAxis(), begin = node.getBegin(), size = node.getSize();
  int64_t extent = shapeOf(grid->codes)[axis], stride = node.getStride();
  auto cut = [&](int64_t rows) { // whether a border of the slice lies inside a block
    return stride != 1 || begin % rows != 0 || (size % rows != 0 && begin + size != extent);
  };
  if (axis == grid->rank() - 1) {
    bool channel = grid->isChannel();
    if (!channel && cut(grid->group))
      return std::nullopt;
    if (!channel)
      grid->changeScales([&](TypedAttr part) {
        return slice(part, axis, begin / grid->group, llvm::divideCeil(size, grid->group));
      });
    else
      grid->group = size;
    grid->group = std::min(grid->group, size);
  } else if (axis == grid->rank() - 2) {
    auto follow = [&](TypedAttr part, int64_t &rows) {
      int64_t first = begin / rows, last = (begin + (size - 1) * stride) / rows;
      if (first == last) {
        part = slice(part, axis, first, 1);
        rows = size;
      } else {
        part = slice(part, axis, rows == 1 ? begin : first,
                     rows == 1 ? size : llvm::divideCeil(size, rows), rows == 1 ? stride : 1);
      }
      return part;
    };
    auto fits = [&](int64_t rows) {
      return rows == 1 || !cut(rows) || begin / rows == (begin + (size - 1) * stride) / rows;
    };
    if (!fits(grid->blockRows) || !fits(grid->rowScaleRows))
      grid->refineRows();
    int64_t zeroRows = grid->blockRows;
    if (grid->zeros)
      grid->zeros = follow(grid->zeros, zeroRows);
    grid->scales = follow(grid->scales, grid->blockRows);
    if (grid->rowScales)
      grid->rowScales = follow(grid->rowScales, grid->rowScaleRows);
  } else {
    auto follow = [&](TypedAttr part) { return slice(part, axis, begin, size, stride); };
    grid->changeScales(follow);
    if (grid->rowScales)
      grid->rowScales = follow(grid->rowScales);
  }
  grid->codes = slice(grid->codes, axis, begin, size, stride);
  return grid;
}

MaybeGrid gridOf(moe::TakeAttr node) {
  MaybeGrid grid = gridOf(node.getOperand());
  if (!grid)
    return std::nullopt;
  auto take = [&](TypedAttr part) {
    return asTyped(moe::TakeAttr::get(node.getContext(), part, node.getIndices()));
  };
  if (grid->rank() == 2)
    grid->refineRows();
  grid->codes = take(grid->codes);
  grid->changeScales(take);
  if (grid->rowScales)
    grid->rowScales = take(grid->rowScales);
  return grid;
}

/// Operands along an axis, of one element type: where types differ, as float32.
TypedAttr concat(int64_t axis, ArrayRef<TypedAttr> operands) {
  MLIRContext *context = operands.front().getContext();
  Type element = typeOf(operands.front()).getElementType();
  if (llvm::all_of(operands,
                   [&](TypedAttr part) { return typeOf(part).getElementType() == element; }))
    return asTyped(moe::ConcatAttr::get(context, axis, operands));
  SmallVector<TypedAttr> floats;
  for (TypedAttr part : operands)
    floats.push_back(asTyped(moe::ConvertAttr::get(context, part, Float32Type::get(context))));
  return asTyped(moe::ConcatAttr::get(context, axis, floats));
}

MaybeGrid gridOf(moe::ConcatAttr node) {
  SmallVector<Grid> parts;
  int64_t axis = node.getAxis();
  for (TypedAttr operand : node.getOperands()) {
    MaybeGrid grid = gridOf(operand);
    if (!grid)
      return std::nullopt;
    parts.push_back(*grid);
  }
  Grid &first = parts.front();
  int64_t rank = first.rank(), group = 0;
  for (Grid &part : parts) {
    if (typeOf(part.codes).getElementType() != typeOf(first.codes).getElementType() ||
        bool(part.zeros) != bool(first.zeros) || bool(part.rowScales) != bool(first.rowScales) ||
        part.origin != first.origin ||
        (part.zeros && typeOf(part.zeros).getElementType() != typeOf(first.zeros).getElementType()))
      return std::nullopt;
    group = std::gcd(group, part.group);
  }
  bool byColumns = axis == rank - 1;
  if (byColumns && first.rowScales)
    return std::nullopt;
  for (Grid &part : parts) {
    if (byColumns && part.columns() % group != 0 && &part != &parts.back())
      return std::nullopt;
    part.refineColumns(group);
  }
  // Blocks of rows survive when they agree and none of them is cut by the next operand.
  auto agree = [&](int64_t Grid::*rows) {
    return llvm::all_of(parts, [&](const Grid &part) {
      return part.*rows == first.*rows &&
             (axis != rank - 2 || part.rows() % (part.*rows) == 0 || &part == &parts.back());
    });
  };
  if (!agree(&Grid::blockRows) || !agree(&Grid::rowScaleRows))
    for (Grid &part : parts)
      part.refineRows();
  auto join = [&](TypedAttr Grid::*member) {
    SmallVector<TypedAttr> operands;
    for (Grid &part : parts)
      operands.push_back(part.*member);
    return concat(axis, operands);
  };
  Grid result = first;
  result.codes = join(&Grid::codes);
  result.scales = join(&Grid::scales);
  if (first.zeros)
    result.zeros = join(&Grid::zeros);
  if (first.rowScales)
    result.rowScales = join(&Grid::rowScales);
  return result;
}

MaybeGrid gridOf(moe::TransposeAttr node) {
  MaybeGrid grid = gridOf(node.getOperand());
  if (!grid)
    return std::nullopt;
  ArrayRef<int64_t> permutation = node.getPermutation().asArrayRef();
  int64_t rank = grid->rank();
  auto transpose = [&](TypedAttr part) {
    return asTyped(moe::TransposeAttr::get(node.getContext(), part, node.getPermutation()));
  };
  bool exchanged = permutation[rank - 1] == rank - 2 && permutation[rank - 2] == rank - 1;
  if (exchanged) {
    if (grid->zeros || grid->rowScales)
      return std::nullopt;
    int64_t rows = grid->rows();
    grid->group = std::exchange(grid->blockRows, grid->group);
    grid->group = std::min(grid->group, rows);
  } else if (permutation[rank - 1] != rank - 1) {
    return std::nullopt;
  } else if (permutation[rank - 2] != rank - 2) {
    grid->refineRows();
  }
  grid->codes = transpose(grid->codes);
  grid->changeScales(transpose);
  if (grid->rowScales)
    grid->rowScales = transpose(grid->rowScales);
  return grid;
}

int64_t product(ArrayRef<int64_t> dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t(1), std::multiplies<>());
}

MaybeGrid gridOf(moe::ReshapeAttr node) {
  MaybeGrid grid = gridOf(node.getOperand());
  ArrayRef<int64_t> to = node.getShape().getShape();
  if (!grid || to.size() < 2 || to.back() != grid->columns())
    return std::nullopt;
  int64_t rows = grid->rows(), newRows = to[to.size() - 2];
  int64_t matrices = product(shapeOf(grid->codes).drop_back(2)),
          newMatrices = product(to.drop_back(2));
  auto shaped = [&](TypedAttr part, int64_t blocks) {
    Shape shape(to.drop_back(2));
    shape.append({blocks, shapeOf(part).back()});
    return reshape(part, shape);
  };
  // Blocks of the flattened rows, then those of the new matrices.
  auto follow = [&](TypedAttr part, int64_t &block) {
    if (rows == newRows)
      return shaped(part, llvm::divideCeil(rows, block));
    if (newRows % block == 0)
      return shaped(part, newRows / block);
    Shape flat = {matrices * int64_t(llvm::divideCeil(rows, block)), shapeOf(part).back()};
    part = repeat(reshape(part, flat), 0, block / newRows, newMatrices);
    block = newRows;
    return shaped(part, 1);
  };
  auto fits = [&](int64_t block) {
    return rows == newRows ||
           ((rows % block == 0 || matrices == 1) && (newRows % block == 0 || block % newRows == 0));
  };
  if (!fits(grid->blockRows) || !fits(grid->rowScaleRows))
    grid->refineRows();
  int64_t zeroRows = grid->blockRows;
  if (grid->zeros)
    grid->zeros = follow(grid->zeros, zeroRows);
  grid->scales = follow(grid->scales, grid->blockRows);
  if (grid->rowScales)
    grid->rowScales = follow(grid->rowScales, grid->rowScaleRows);
  grid->codes = reshape(grid->codes, to);
  return grid;
}

MaybeGrid gridOf(TypedAttr expr) {
  return llvm::TypeSwitch<Attribute, MaybeGrid>(expr)
      .Case<moe::DequantizeAttr, moe::QuantizeAttr, moe::SliceAttr, moe::TakeAttr, moe::ConcatAttr,
            moe::TransposeAttr, moe::ReshapeAttr>([](auto node) { return gridOf(node); })
      .Default([](Attribute) { return std::nullopt; });
}

/// Names the format of refined parts; empty when no kernel reads it.
std::string nameFormat(const Grid &grid) {
  Type code = typeOf(grid.codes).getElementType(), scale = typeOf(grid.scales).getElementType();
  std::string name;
  if (isa<Float4E2M1FNType>(code)) {
    if (isa<Float8E8M0FNUType>(scale) && grid.group == 32 && !grid.rowScales)
      name = "mxfp4";
    else if (isa<Float8E4M3FNType>(scale) && grid.group == 16)
      name = "nvfp4";
  } else if (!grid.rowScales) {
    if (isa<Float8E4M3FNType>(code))
      name = "f8e4m3";
    else if (code.isSignlessInteger(4))
      name = "i4";
    else if (!grid.zeros && grid.origin == (code.isSignlessInteger(8) ? 0 : 128))
      name = "i8";
    if (!name.empty())
      name += grid.isChannel() ? ":channel" : ":group" + std::to_string(grid.group);
  }
  return !name.empty() && quant::parsePackable(name).isOk() ? name : "";
}

} // namespace

bool isQuantized(TypedAttr expr) {
  if (isa<moe::DequantizeAttr, moe::QuantizeAttr>(expr))
    return true;
  auto node = dyn_cast<moe::WeightExprInterface>(expr);
  return node && llvm::any_of(node.getOperandExprs(), isQuantized);
}

std::optional<QuantizedParts> splitQuantized(TypedAttr expr) {
  MaybeGrid grid = gridOf(expr);
  if (!grid)
    return std::nullopt;
  grid->refineRows();
  std::string format = nameFormat(*grid);
  if (format.empty())
    return std::nullopt;
  return QuantizedParts{grid->codes, grid->scales, grid->zeros, grid->rowScales,
                        grid->group, grid->origin, format};
}

} // namespace sluice
