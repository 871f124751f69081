//===- PackedLayout.cpp - The order in which host kernels stream weights ----===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Packing is a transpose of 16-row strips with a conversion per element. It walks a strip in short
// column tiles, so that the 16 source rows and the destination stay in the first-level cache, and
// reads elements with memcpy because tensors in a mapped checkpoint need not be aligned. Panels of
// quantised formats are written and read by GroupedPanel.cpp.
//
//===------------------------------------------------------------------------===//
#include "runtime/quant/PackedLayout.h"

#include "runtime/base/ElementTraits.h"
#include "runtime/quant/GroupedPanel.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace sluice::quant {
namespace {

constexpr int64_t kColumnTile = 64;
constexpr uint64_t kMaxBytes = uint64_t(1) << 62;
/// A panel of so many columns is below 2^62 bytes in every format.
constexpr int64_t kMaxColumns = int64_t(1) << 55;

bool multiplyWithin(uint64_t a, uint64_t b, uint64_t &out) {
  return !__builtin_mul_overflow(a, b, &out) && out <= kMaxBytes;
}

using element::BF16;
using element::F16;
using element::F32;

template <typename Fn> void withElement(ElementType type, const Fn &fn) {
  if (type == ElementType::kF32)
    fn(F32());
  else if (type == ElementType::kBF16)
    fn(BF16());
  else
    fn(F16());
}

/// Packs up to 16 rows into one panel; rows past `rows` become zero.
template <typename From, typename To>
void packPanel(const std::byte *source, int64_t rowStride, int64_t rows, int64_t k,
               std::byte *panel) {
  constexpr bool sameBits = std::is_same_v<From, To>;
  typename To::Bits tile[kColumnTile][kPanelRows] = {};
  for (int64_t k0 = 0; k0 < k; k0 += kColumnTile) {
    int64_t width = std::min(kColumnTile, k - k0);
    for (int64_t row = 0; row < rows; ++row) {
      typename From::Bits values[kColumnTile];
      std::memcpy(values, source + (row * rowStride + k0) * int64_t(sizeof(values[0])),
                  size_t(width) * sizeof(values[0]));
      for (int64_t i = 0; i < width; ++i) {
        if constexpr (sameBits)
          tile[i][row] = values[i];
        else
          tile[i][row] = To::narrow(From::widen(values[i]));
      }
    }
    std::memcpy(panel + k0 * kPanelRows * int64_t(sizeof(tile[0][0])), tile,
                size_t(width) * sizeof(tile[0]));
  }
}

} // namespace

Result<PackedLayout> PackedLayout::create(std::string_view layout, const WeightFormat &format,
                                          int64_t n, int64_t k, int64_t blobs) {
  if (layout != "panel16" && layout != "gate_up_panel16")
    return unsupported("weight layout \"" + std::string(layout) +
                       "\" is not known to the host; layouts are panel16 and gate_up_panel16");
  SLUICE_RETURN_IF_ERROR(requirePackable(format));
  auto describe = [&] {
    return std::to_string(blobs) + " x [" + std::to_string(n) + ", " + std::to_string(k) + "] " +
           format.name();
  };
  if (n <= 0 || k <= 0 || blobs <= 0)
    return invalidArgument("weight " + describe() + " has a size below 1");

  PackedLayout out;
  out.weightFormat = format;
  out.paired = layout == "gate_up_panel16";
  out.rows = n;
  out.cols = k;
  out.blobCount = blobs;
  uint64_t unpadded = 0, total = 0;
  uint64_t panelCount = (uint64_t(n) + kPanelRows - 1) / kPanelRows * (out.paired ? 2 : 1);
  bool fits = k <= kMaxColumns;
  if (fits)
    out.panelSize = format.isQuantized()
                        ? uint64_t(GroupedPanel(format, k).panelBytes())
                        : uint64_t(k) * kPanelRows * uint64_t(elementBytes(format.element));
  fits = fits && multiplyWithin(out.panelSize, panelCount, unpadded);
  out.blobSize = (unpadded + kBlobAlignment - 1) / kBlobAlignment * kBlobAlignment;
  if (!fits || !multiplyWithin(out.blobSize, uint64_t(blobs), total))
    return invalidArgument("weight " + describe() + " exceeds 2^62 bytes when packed");
  return out;
}

uint64_t PackedLayout::bytesOfRows(int64_t rowBegin, int64_t rowCount) const {
  uint64_t begin = offsetOfRow(rowBegin);
  if (rowBegin + rowCount >= rows)
    return blobSize - begin;
  return offsetOfRow(rowBegin + rowCount) - begin;
}

Status PackedLayout::checkRole(PanelRole role) const {
  if (paired == (role == PanelRole::kOnly))
    return invalidArgument(std::string("layout ") + name() +
                           (paired ? " packs gate and up rows; say which"
                                   : " holds one matrix; there is no gate or up part"));
  return Status::ok();
}

Status PackedLayout::packRows(PanelRole role, int64_t rowBegin, int64_t rowCount,
                              const SourceRows &source, std::span<std::byte> out) const {
  SLUICE_RETURN_IF_ERROR(checkRole(role));
  if (rowBegin < 0 || rowCount <= 0 || rowBegin > rows || rowCount > rows - rowBegin ||
      rowBegin % kPanelRows != 0 || (rowCount % kPanelRows != 0 && rowBegin + rowCount != rows))
    return invalidArgument("rows [" + std::to_string(rowBegin) + ", " + std::to_string(rowBegin) +
                           " + " + std::to_string(rowCount) + ") of " + std::to_string(rows) +
                           " cannot be packed alone; a range consists of whole 16-row panels");
  if (out.size() != bytesOfRows(rowBegin, rowCount))
    return invalidArgument("packed rows take " + std::to_string(bytesOfRows(rowBegin, rowCount)) +
                           " bytes; the destination has " + std::to_string(out.size()));
  const bool quantized = weightFormat.isQuantized();
  if (quantized && source.type != weightFormat.element)
    return unsupported(std::string("source elements of type ") + elementTypeName(source.type) +
                       " cannot be packed as " + weightFormat.name() + "; sources are codes of " +
                       elementTypeName(weightFormat.element));
  if (!quantized && source.type > ElementType::kF16)
    return unsupported(std::string("source elements of type ") + elementTypeName(source.type) +
                       " cannot be packed; sources are f32, bf16 or f16");
  if (source.rowStride < cols)
    return invalidArgument("source rows are " + std::to_string(source.rowStride) +
                           " elements apart, less than the " + std::to_string(cols) +
                           " columns of the weight");

  std::byte *panel = out.data() + (role == PanelRole::kUp ? panelSize : 0);
  if (quantized) {
    const GroupedPanel grouped(weightFormat, cols);
    SLUICE_RETURN_IF_ERROR(grouped.checkSource(source));
    for (int64_t row = 0; row < rowCount; row += kPanelRows, panel += panelStride())
      SLUICE_RETURN_IF_ERROR(
          grouped.pack(source, row, std::min(kPanelRows, rowCount - row), panel));
  } else {
    withElement(source.type, [&](auto from) {
      withElement(weightFormat.element, [&](auto to) {
        using From = decltype(from);
        using To = decltype(to);
        for (int64_t row = 0; row < rowCount; row += kPanelRows, panel += panelStride())
          packPanel<From, To>(source.data +
                                  row * source.rowStride * int64_t(sizeof(typename From::Bits)),
                              source.rowStride, std::min(kPanelRows, rowCount - row), cols, panel);
      });
    });
  }
  uint64_t used = uint64_t((rowCount + kPanelRows - 1) / kPanelRows) * panelStride();
  std::memset(out.data() + used, 0, out.size() - used);
  return Status::ok();
}

Status PackedLayout::unpack(PanelRole role, std::span<const std::byte> blob,
                            std::span<float> out) const {
  SLUICE_RETURN_IF_ERROR(checkRole(role));
  if (blob.size() != blobSize || out.size() != uint64_t(rows) * uint64_t(cols))
    return invalidArgument("a blob of " + std::to_string(blob.size()) + " bytes into " +
                           std::to_string(out.size()) + " values does not match " + name() + " [" +
                           std::to_string(rows) + ", " + std::to_string(cols) + "] of " +
                           std::to_string(blobSize) + " bytes");
  if (weightFormat.isQuantized()) {
    const GroupedPanel grouped(weightFormat, cols);
    for (int64_t row = 0; row < rows; row += kPanelRows)
      grouped.unpack(blob.data() + offsetOfRow(row) + (role == PanelRole::kUp ? panelSize : 0),
                     std::min(kPanelRows, rows - row), out.data() + row * cols);
    return Status::ok();
  }
  withElement(weightFormat.element, [&](auto element) {
    using Element = decltype(element);
    for (int64_t row = 0; row < rows; ++row) {
      const std::byte *column = blob.data() + offsetOfRow(row) +
                                (role == PanelRole::kUp ? panelSize : 0) +
                                row % kPanelRows * int64_t(sizeof(typename Element::Bits));
      for (int64_t k = 0; k < cols; ++k) {
        typename Element::Bits bits;
        std::memcpy(&bits, column + k * kPanelRows * int64_t(sizeof(bits)), sizeof(bits));
        out[size_t(row * cols + k)] = Element::widen(bits);
      }
    }
  });
  return Status::ok();
}

Result<uint64_t> packedBytes(std::string_view layout, const WeightFormat &format, int64_t n,
                             int64_t k, int64_t blobs) {
  SLUICE_ASSIGN_OR_RETURN(PackedLayout packed, PackedLayout::create(layout, format, n, k, blobs));
  return packed.totalBytes();
}

} // namespace sluice::quant
