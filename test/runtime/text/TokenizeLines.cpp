//===- TokenizeLines.cpp - Tokenizes hexadecimal lines ----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The counterpart of make_vectors.py --check: reads one text per line, in hexadecimal, and prints
// its ids and, after a bar, what they decode to in hexadecimal.
//
//===------------------------------------------------------------------------===//
#include "sluice/tokenizer.h"

#include <cstdio>
#include <iostream>

using namespace sluice;

static int fail(const Status &status) {
  std::cerr << status.toString() << "\n";
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    std::cerr << "usage: tokenize_lines TOKENIZER.json < HEX_LINES\n";
    return 2;
  }
  auto tokenizer = Tokenizer::fromFile(argv[1]);
  if (!tokenizer.isOk())
    return fail(tokenizer.status());
  for (std::string line; std::getline(std::cin, line);) {
    std::string text;
    for (size_t i = 0; i + 1 < line.size(); i += 2)
      text += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    auto ids = tokenizer->encode(text);
    if (!ids.isOk())
      return fail(ids.status());
    auto decoded = tokenizer->decode(*ids, {.skipSpecialTokens = false});
    if (!decoded.isOk())
      return fail(decoded.status());
    for (int32_t id : *ids)
      std::printf("%d ", id);
    std::printf("|");
    for (char c : *decoded)
      std::printf("%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    std::printf("\n");
  }
  return 0;
}
