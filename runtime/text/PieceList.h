//===- PieceList.h - A text that is being cut up ----------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Between the raw text and the model, a sequence is a list of pieces, some of which are tokens
// already (added tokens found in the text). Stages either cut the open pieces or rewrite them; both
// work on one buffer, so that a long text costs a few allocations and not one per word.
//
//===------------------------------------------------------------------------===//
#ifndef SLUICE_RUNTIME_TEXT_PIECE_LIST_H
#define SLUICE_RUNTIME_TEXT_PIECE_LIST_H

#include "runtime/text/SplitPattern.h"
#include "sluice/status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::text {

struct Piece {
  size_t begin, end;  ///< bytes of the buffer
  int32_t token = -1; ///< the id when the piece is a token already
  bool atStart;       ///< begins where the text begins
};

class PieceList {
public:
  explicit PieceList(std::string_view text) : buffer(text) {
    if (!text.empty())
      pieces.push_back({0, text.size(), -1, true});
  }

  const std::vector<Piece> &all() const { return pieces; }
  std::string_view view(const Piece &piece) const {
    return std::string_view(buffer).substr(piece.begin, piece.end - piece.begin);
  }

  /// Cuts every open piece: `cut(view, spans)` fills the parts to keep, in bytes of the view. Empty
  /// parts vanish.
  template <typename F> Status split(F &&cut) {
    std::vector<Piece> next;
    next.reserve(pieces.size());
    std::vector<Span> spans;
    for (const Piece &piece : pieces) {
      if (piece.token >= 0) {
        next.push_back(piece);
        continue;
      }
      spans.clear();
      SLUICE_RETURN_IF_ERROR(cut(view(piece), spans));
      for (const Span &span : spans)
        if (span.begin < span.end)
          next.push_back({piece.begin + span.begin, piece.begin + span.end, -1,
                          piece.atStart && span.begin == 0});
    }
    pieces = std::move(next);
    return Status::ok();
  }

  /// Cuts every open piece into text and tokens: `cut(view, parts)` fills pieces in bytes of the
  /// view.
  template <typename F> void extract(F &&cut) {
    std::vector<Piece> next, parts;
    for (const Piece &piece : pieces) {
      if (piece.token >= 0) {
        next.push_back(piece);
        continue;
      }
      parts.clear();
      cut(view(piece), parts);
      for (const Piece &part : parts)
        if (part.begin < part.end)
          next.push_back({piece.begin + part.begin, piece.begin + part.end, part.token,
                          piece.atStart && part.begin == 0});
    }
    pieces = std::move(next);
  }

  /// Rewrites every open piece: `change(view, atStart, out)` appends the new text. A piece that
  /// becomes empty vanishes.
  template <typename F> Status rewrite(F &&change) {
    std::string out;
    out.reserve(buffer.size() + buffer.size() / 4);
    size_t kept = 0;
    for (Piece piece : pieces) {
      size_t begin = out.size();
      if (piece.token < 0)
        SLUICE_RETURN_IF_ERROR(change(view(piece), piece.atStart, out));
      if (piece.token < 0 && begin == out.size())
        continue;
      pieces[kept++] = {begin, out.size(), piece.token, piece.atStart};
    }
    pieces.resize(kept);
    buffer = std::move(out);
    return Status::ok();
  }

private:
  std::string buffer;
  std::vector<Piece> pieces;
};

} // namespace sluice::text

#endif // SLUICE_RUNTIME_TEXT_PIECE_LIST_H
