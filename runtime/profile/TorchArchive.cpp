//===- TorchArchive.cpp - Expert counts in files of torch.save --------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/TorchArchive.h"

#include "runtime/profile/TensorNumbers.h"

#include <bit>
#include <cstring>
#include <map>
#include <unordered_map>

namespace sluice {
namespace {

/// Bytes read front to back, never past the end: a read that does not fit sets `bad` and gives
/// zero.
class Bytes {
public:
  explicit Bytes(std::string_view text, size_t at = 0) : text(text), at(at) {}
  template <typename T> T number() {
    T value{};
    std::string_view part = take(sizeof(T));
    if (!bad)
      std::memcpy(&value, part.data(), sizeof(T)); // little endian, as every target of ours
    return value;
  }
  std::string_view take(uint64_t count) {
    if (bad || at > text.size() || count > text.size() - at) {
      bad = true;
      return {};
    }
    std::string_view part = text.substr(at, count);
    at += count;
    return part;
  }
  std::string_view line() {
    size_t end = bad ? std::string_view::npos : text.find('\n', at);
    if (end == std::string_view::npos) {
      bad = true;
      return {};
    }
    std::string_view part = text.substr(at, end - at);
    at = end + 1;
    return part;
  }
  bool bad = false;

private:
  std::string_view text;
  size_t at;
};

/// The entries of a zip archive that is wholly in memory.
class ZipArchive {
public:
  static Result<ZipArchive> open(std::string_view bytes, const std::string &name) {
    ZipArchive zip(bytes, name);
    SLUICE_RETURN_IF_ERROR(zip.readDirectory());
    return zip;
  }
  /// The content of the one entry whose path ends in `suffix`.
  Result<std::string_view> find(const std::string &suffix) const {
    for (const auto &[path, entry] : entries)
      if (path.size() >= suffix.size() &&
          path.compare(path.size() - suffix.size(), suffix.size(), suffix) == 0)
        return content(path, entry);
    return dataCorrupt(name + ": the archive has no entry *" + suffix);
  }

private:
  struct Entry {
    uint16_t method;
    uint64_t stored, offset;
  };
  ZipArchive(std::string_view bytes, const std::string &name) : bytes(bytes), name(name) {}

  Status readDirectory() {
    auto corrupt = [&](const char *what) {
      return dataCorrupt(name + ": " + what + "; the zip archive is truncated or not one");
    };
    constexpr size_t kEndBytes = 22, kMaxComment = 0xffff;
    size_t searched = std::min(bytes.size(), kEndBytes + kMaxComment);
    size_t end = bytes.substr(bytes.size() - searched).rfind(std::string_view("PK\5\6", 4));
    if (end == std::string_view::npos)
      return corrupt("it has no central directory");
    end += bytes.size() - searched;
    Bytes tail(bytes, end + 10);
    uint64_t count = tail.number<uint16_t>();
    tail.take(4);
    uint64_t offset = tail.number<uint32_t>();
    tail.take(tail.number<uint16_t>()); // the comment
    if (tail.bad)
      return corrupt("its directory record is cut off");
    if (offset == 0xffffffff || count == 0xffff) { // zip64: a locator of 20 bytes stands before
      if (end < 20)
        return corrupt("it has no zip64 locator");
      Bytes locator(bytes, end - 20);
      if (locator.take(4) != std::string_view("PK\6\7", 4))
        return corrupt("it has no zip64 locator");
      locator.take(4);
      Bytes record(bytes, locator.number<uint64_t>());
      if (record.take(4) != std::string_view("PK\6\6", 4))
        return corrupt("its zip64 record is missing");
      record.take(28);
      count = record.number<uint64_t>();
      record.take(8);
      offset = record.number<uint64_t>();
      if (record.bad)
        return corrupt("its zip64 record is cut off");
    }
    Bytes directory(bytes, offset);
    for (uint64_t i = 0; i < count; ++i) {
      if (directory.take(4) != std::string_view("PK\1\2", 4))
        return corrupt("an entry of its directory is missing");
      Entry entry{};
      directory.take(6);
      entry.method = directory.number<uint16_t>();
      directory.take(8);
      entry.stored = directory.number<uint32_t>();
      uint64_t full = directory.number<uint32_t>();
      auto nameBytes = directory.number<uint16_t>(), extraBytes = directory.number<uint16_t>();
      auto commentBytes = directory.number<uint16_t>();
      directory.take(8);
      entry.offset = directory.number<uint32_t>();
      std::string path(directory.take(nameBytes));
      Bytes extra(directory.take(extraBytes));
      directory.take(commentBytes);
      if (directory.bad)
        return corrupt("an entry of its directory is cut off");
      bool wide = full == 0xffffffff || entry.stored == 0xffffffff || entry.offset == 0xffffffff;
      while (wide && !extra.bad) {
        uint16_t id = extra.number<uint16_t>(), size = extra.number<uint16_t>();
        Bytes field(extra.take(size));
        if (extra.bad || id != 1)
          continue;
        if (full == 0xffffffff)
          field.number<uint64_t>();
        if (entry.stored == 0xffffffff)
          entry.stored = field.number<uint64_t>();
        if (entry.offset == 0xffffffff)
          entry.offset = field.number<uint64_t>();
        wide = field.bad;
      }
      if (wide)
        return corrupt("an entry has no zip64 sizes");
      entries[path] = entry;
    }
    return Status::ok();
  }

  Result<std::string_view> content(const std::string &path, const Entry &entry) const {
    if (entry.method != 0)
      return unsupported(name + ": entry " + path +
                         " is compressed; torch.save stores its entries, and so must this file");
    Bytes local(bytes, entry.offset);
    bool found = local.take(4) == std::string_view("PK\3\4", 4);
    local.take(22);
    auto nameBytes = local.number<uint16_t>(), extraBytes = local.number<uint16_t>();
    local.take(uint64_t(nameBytes) + extraBytes);
    std::string_view data = local.take(entry.stored);
    if (!found || local.bad)
      return dataCorrupt(name + ": entry " + path + " points outside the archive");
    return data;
  }

  std::string_view bytes;
  std::string name;
  std::map<std::string, Entry> entries;
};

/// A value that a pickle can build here. Containers refer to others by index.
struct Node {
  enum Kind {
    kMark,
    kOpaque,
    kNone,
    kBool,
    kInt,
    kFloat,
    kText,
    kSequence,
    kDict,
    kGlobal,
    kStorage,
    kTensor
  } kind = kOpaque;
  int64_t integer = 0;    ///< kInt; kStorage: elements
  double real = 0;        ///< kFloat
  std::string text;       ///< kText, kGlobal "module name"; kStorage: key
  std::string type;       ///< kStorage: "LongStorage"
  std::vector<int> items; ///< kSequence; kDict: key, value, key, value; kTensor: storage, offset,
                          ///< sizes, strides
};

class Unpickler {
public:
  Unpickler(std::string_view program, const std::string &name) : in(program), name(name) {}

  /// Runs the program; the result is the index of the value it leaves.
  Result<int> run() {
    for (;;) {
      auto op = in.number<uint8_t>();
      if (in.bad)
        return corrupt("it ends before its STOP");
      if (op == '.')
        return stack.empty() ? Result<int>(corrupt("it leaves no value")) : stack.back();
      SLUICE_RETURN_IF_ERROR(execute(op));
      if (in.bad)
        return corrupt("an argument is cut off");
    }
  }
  const Node &node(int index) const { return nodes[index]; }

  Status corrupt(const std::string &what) const { return dataCorrupt(name + ": pickle: " + what); }

private:
  int make(Node::Kind kind) {
    nodes.emplace_back().kind = kind;
    return static_cast<int>(nodes.size()) - 1;
  }
  Node &push(Node::Kind kind) {
    int index = make(kind);
    stack.push_back(index);
    return nodes[index];
  }
  void pushInt(int64_t value) { push(Node::kInt).integer = value; }
  Status pushText(uint64_t bytes) {
    std::string_view text = in.take(bytes);
    push(Node::kText).text = text;
    return Status::ok();
  }
  Status pushSequence(size_t count) {
    if (stack.size() < count)
      return corrupt("the stack is too short for a tuple");
    std::vector<int> items(stack.end() - static_cast<long>(count), stack.end());
    stack.resize(stack.size() - count);
    push(Node::kSequence).items = std::move(items);
    return Status::ok();
  }
  /// Takes what was pushed since the last mark, and the mark.
  Result<std::vector<int>> sinceMark() {
    for (size_t i = stack.size(); i-- > 0;) {
      if (nodes[stack[i]].kind != Node::kMark)
        continue;
      std::vector<int> items(stack.begin() + static_cast<long>(i) + 1, stack.end());
      stack.resize(i);
      return items;
    }
    return corrupt("a mark is missing");
  }
  Status addTo(Node::Kind kind, const std::vector<int> &items) {
    if (stack.empty() ||
        (nodes[stack.back()].kind != kind && nodes[stack.back()].kind != Node::kOpaque))
      return corrupt("a container to add to is missing");
    if (kind == Node::kDict && items.size() % 2 != 0)
      return corrupt("a key has no value");
    std::vector<int> &to = nodes[stack.back()].items;
    to.insert(to.end(), items.begin(), items.end());
    return Status::ok();
  }
  Status pushLong(uint64_t bytes) {
    std::string_view digits = in.take(bytes);
    if (digits.size() > 8)
      return corrupt("an integer of " + std::to_string(digits.size()) + " bytes");
    uint64_t value = 0;
    for (size_t i = 0; i < digits.size(); ++i)
      value |= uint64_t(uint8_t(digits[i])) << (8 * i);
    if (!digits.empty() && digits.size() < 8 && (uint8_t(digits.back()) & 0x80))
      value |= ~uint64_t(0) << (8 * digits.size());
    pushInt(static_cast<int64_t>(value));
    return Status::ok();
  }
  Status memoize(uint64_t key) {
    if (stack.empty())
      return corrupt("there is nothing to remember");
    memo[key] = stack.back();
    return Status::ok();
  }
  Status recall(uint64_t key) {
    auto found = memo.find(key);
    if (found == memo.end())
      return corrupt("value " + std::to_string(key) + " was never remembered");
    stack.push_back(found->second);
    return Status::ok();
  }
  Status pushGlobal(const std::string &text) {
    push(Node::kGlobal).text = text;
    return Status::ok();
  }

  /// ("storage", torch.LongStorage, "0", "cpu", elements)
  Status persistent() {
    if (stack.empty())
      return corrupt("a storage is missing");
    Node id = nodes[stack.back()];
    stack.pop_back();
    if (id.kind != Node::kSequence || id.items.size() < 5 ||
        nodes[id.items[1]].kind != Node::kGlobal || nodes[id.items[2]].kind != Node::kText ||
        nodes[id.items[4]].kind != Node::kInt)
      return corrupt("a persistent value is no storage of a tensor");
    std::string type = nodes[id.items[1]].text, key = nodes[id.items[2]].text;
    int64_t elements = nodes[id.items[4]].integer;
    Node &storage = push(Node::kStorage);
    storage.type = type.rfind("torch ", 0) == 0 ? type.substr(6) : type;
    storage.text = key;
    storage.integer = elements;
    return Status::ok();
  }

  Status reduce() {
    if (stack.size() < 2)
      return corrupt("a call is cut off");
    Node arguments = nodes[stack.back()], function = nodes[stack[stack.size() - 2]];
    stack.resize(stack.size() - 2);
    if (function.kind != Node::kGlobal || arguments.kind != Node::kSequence)
      return corrupt("something is called that is no function");
    if (function.text == "collections OrderedDict" && arguments.items.empty()) {
      push(Node::kDict);
      return Status::ok();
    }
    if (function.text != "torch._utils _rebuild_tensor_v2")
      return corrupt("it wants to call \"" + function.text +
                     "\"; only tensors, numbers, strings and containers are read");
    if (arguments.items.size() < 4 || nodes[arguments.items[0]].kind != Node::kStorage ||
        nodes[arguments.items[1]].kind != Node::kInt ||
        nodes[arguments.items[2]].kind != Node::kSequence ||
        nodes[arguments.items[3]].kind != Node::kSequence)
      return corrupt("a tensor has no storage, offset, sizes and strides");
    arguments.items.resize(4);
    push(Node::kTensor).items = arguments.items;
    return Status::ok();
  }

  Status execute(uint8_t op) {
    switch (op) {
    case 0x80: // PROTO
      in.take(1);
      return Status::ok();
    case 0x95: // FRAME
      in.take(8);
      return Status::ok();
    case '(':
      push(Node::kMark);
      return Status::ok();
    case 'N':
      push(Node::kNone);
      return Status::ok();
    case 0x88: // NEWTRUE
    case 0x89: // NEWFALSE
      push(Node::kBool).integer = op == 0x88;
      return Status::ok();
    case 'J':
      pushInt(in.number<int32_t>());
      return Status::ok();
    case 'K':
      pushInt(in.number<uint8_t>());
      return Status::ok();
    case 'M':
      pushInt(in.number<uint16_t>());
      return Status::ok();
    case 0x8a: // LONG1
      return pushLong(in.number<uint8_t>());
    case 0x8b: // LONG4
      return pushLong(in.number<uint32_t>());
    case 'G': { // big endian
      std::string_view digits = in.take(8);
      uint64_t bits = 0;
      for (char digit : digits)
        bits = bits << 8 | uint8_t(digit);
      push(Node::kFloat).real = std::bit_cast<double>(bits);
      return Status::ok();
    }
    case 'X': // BINUNICODE
    case 'B': // BINBYTES
    case 'T': // BINSTRING
      return pushText(in.number<uint32_t>());
    case 0x8c: // SHORT_BINUNICODE
    case 'C':  // SHORT_BINBYTES
    case 'U':  // SHORT_BINSTRING
      return pushText(in.number<uint8_t>());
    case 0x8d: // BINUNICODE8
      return pushText(in.number<uint64_t>());
    case ')':
    case ']':
    case 0x8f: // EMPTY_SET
      push(Node::kSequence);
      return Status::ok();
    case '}':
      push(Node::kDict);
      return Status::ok();
    case 0x85: // TUPLE1, 2, 3
    case 0x86:
    case 0x87:
      return pushSequence(op - 0x84);
    case 't': {
      SLUICE_ASSIGN_OR_RETURN(std::vector<int> items, sinceMark());
      push(Node::kSequence).items = std::move(items);
      return Status::ok();
    }
    case 'e':    // APPENDS
    case 0x90: { // ADDITEMS
      SLUICE_ASSIGN_OR_RETURN(std::vector<int> items, sinceMark());
      return addTo(Node::kSequence, items);
    }
    case 'u': { // SETITEMS
      SLUICE_ASSIGN_OR_RETURN(std::vector<int> items, sinceMark());
      return addTo(Node::kDict, items);
    }
    case 'a':   // APPEND
    case 's': { // SETITEM
      size_t count = op == 'a' ? 1 : 2;
      if (stack.size() < count)
        return corrupt("the stack is too short for an item");
      std::vector<int> items(stack.end() - static_cast<long>(count), stack.end());
      stack.resize(stack.size() - count);
      return addTo(op == 'a' ? Node::kSequence : Node::kDict, items);
    }
    case 'q':
      return memoize(in.number<uint8_t>());
    case 'r':
      return memoize(in.number<uint32_t>());
    case 0x94: // MEMOIZE
      return memoize(memo.size());
    case 'h':
      return recall(in.number<uint8_t>());
    case 'j':
      return recall(in.number<uint32_t>());
    case 'c': {
      std::string module(in.line());
      return pushGlobal(module + " " + std::string(in.line()));
    }
    case 0x93: { // STACK_GLOBAL
      if (stack.size() < 2)
        return corrupt("a global has no name");
      std::string text = nodes[stack[stack.size() - 2]].text + " " + nodes[stack.back()].text;
      stack.resize(stack.size() - 2);
      return pushGlobal(text);
    }
    case 'Q':
      return persistent();
    case 'R':
      return reduce();
    case 'b': // BUILD: attributes of a tensor or dictionary say nothing about its numbers
      if (stack.size() < 2)
        return corrupt("a state has no object");
      stack.pop_back();
      return Status::ok();
    default:
      return corrupt("opcode " + std::to_string(op) +
                     " is not one of those that build numbers, strings, containers and tensors");
    }
  }

  Bytes in;
  std::string name;
  std::vector<Node> nodes;
  std::vector<int> stack;
  std::unordered_map<uint64_t, int> memo;
};

DataType storageType(const std::string &type) {
  static constexpr std::pair<const char *, DataType> types[] = {
      {"LongStorage", DataType::kI64},   {"IntStorage", DataType::kI32},
      {"ShortStorage", DataType::kI16},  {"CharStorage", DataType::kI8},
      {"ByteStorage", DataType::kU8},    {"FloatStorage", DataType::kF32},
      {"DoubleStorage", DataType::kF64},
  };
  for (auto [name, dtype] : types)
    if (type == name)
      return dtype;
  return DataType::kBool; // holds no counts
}

/// Elements of a tensor in row-major order.
Status readTensor(const Unpickler &pickle, const Node &tensor, const ZipArchive &zip,
                  const std::string &name, std::vector<int64_t> &sizes,
                  std::vector<double> &values) {
  const Node &storage = pickle.node(tensor.items[0]);
  int64_t offset = pickle.node(tensor.items[1]).integer;
  std::vector<int64_t> strides;
  for (int item : pickle.node(tensor.items[2]).items)
    sizes.push_back(pickle.node(item).integer);
  for (int item : pickle.node(tensor.items[3]).items)
    strides.push_back(pickle.node(item).integer);
  if (strides.size() != sizes.size() || sizes.size() > 3 || sizes.size() < 2)
    return dataCorrupt(name + ": \"logical_count\" has rank " + std::to_string(sizes.size()) +
                       "; it must be [layers, experts] or [windows, layers, experts]");
  while (sizes.size() < 3) {
    sizes.insert(sizes.begin(), 1);
    strides.insert(strides.begin(), 0);
  }
  constexpr int64_t kLargest = int64_t(1) << 40;
  int64_t last = offset;
  bool inRange = offset >= 0 && offset < kLargest && storage.integer >= 0;
  for (size_t i = 0; i < 3; ++i) {
    inRange = inRange && sizes[i] >= 1 && sizes[i] < (1 << 20) && strides[i] >= 0 &&
              strides[i] < kLargest;
    last += inRange ? (sizes[i] - 1) * strides[i] : 0;
    inRange = inRange && last < kLargest;
  }
  if (!inRange || last >= storage.integer)
    return dataCorrupt(name + ": \"logical_count\" reaches outside its storage of " +
                       std::to_string(storage.integer) + " numbers");
  SLUICE_RETURN_IF_ERROR(checkProfileSize(sizes[0], sizes[1], sizes[2], name));
  SLUICE_ASSIGN_OR_RETURN(std::string_view data, zip.find("/data/" + storage.text));
  Status status;
  bool known = withNumberType(storageType(storage.type), [&](auto zero) {
    if (static_cast<uint64_t>(last) >= data.size() / sizeof(zero)) {
      status = dataCorrupt(name + ": storage " + storage.text + " has " +
                           std::to_string(data.size()) + " bytes, too few for \"logical_count\"");
      return;
    }
    for (int64_t w = 0; w < sizes[0]; ++w)
      for (int64_t l = 0; l < sizes[1]; ++l)
        for (int64_t e = 0; e < sizes[2]; ++e) {
          int64_t index = offset + w * strides[0] + l * strides[1] + e * strides[2];
          std::memcpy(&zero, data.data() + index * static_cast<int64_t>(sizeof(zero)),
                      sizeof(zero));
          values.push_back(static_cast<double>(zero));
        }
  });
  if (!known)
    return unsupported(name + ": \"logical_count\" is of type " + storage.type +
                       "; integers, float and double are read");
  return status;
}

} // namespace

Result<Profile> parseTorchProfile(std::string_view bytes, const std::string &name) {
  SLUICE_ASSIGN_OR_RETURN(ZipArchive zip, ZipArchive::open(bytes, name));
  if (Result<std::string_view> order = zip.find("/byteorder"); order.isOk() && *order != "little")
    return unsupported(name + ": its numbers are big-endian");
  SLUICE_ASSIGN_OR_RETURN(std::string_view program, zip.find("/data.pkl"));
  Unpickler pickle(program, name);
  SLUICE_ASSIGN_OR_RETURN(int top, pickle.run());
  const Node &root = pickle.node(top);
  bool perToken = false;
  for (size_t i = 0; root.kind == Node::kDict && i + 1 < root.items.size(); i += 2) {
    const Node &key = pickle.node(root.items[i]), &value = pickle.node(root.items[i + 1]);
    perToken |= key.text == "records";
    if (key.text != "logical_count" || value.kind != Node::kTensor)
      continue;
    std::vector<int64_t> sizes;
    Profile profile;
    SLUICE_RETURN_IF_ERROR(readTensor(pickle, value, zip, name, sizes, profile.counts));
    profile.windows = static_cast<int>(sizes[0]);
    profile.layers = static_cast<int>(sizes[1]);
    profile.experts = static_cast<int>(sizes[2]);
    return profile;
  }
  if (perToken)
    return unsupported(name + ": it holds per-token records; dump with the recorder's mode "
                              "\"stat\" or \"stat_approx\"");
  return dataCorrupt(name + ": it has no tensor \"logical_count\"");
}

} // namespace sluice
