//===- Target.h - What plans are made for -------------------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// A target is a device, how many of them stand in a node, and what connects them: the constants of
// the cost model and the limits of the memory verdict. Descriptions are data files (data/*.json),
// strictly read, because a misspelt key that silently keeps a default makes every later number
// wrong. Data sheets promise what no program measures; a calibration file replaces the constants
// that somebody has measured.
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_COMPILER_TARGET_TARGET_H
#define SLUICE_COMPILER_TARGET_TARGET_H

#include "sluice/status.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

/// One kind of link between devices.
struct Link {
  double latencySeconds = 0; ///< of one message
  double bytesPerSecond = 0; ///< of one device, in one direction
};

/// A step that somebody timed, to hold predictions against.
struct MeasuredStep {
  std::string model;    ///< name of the model, as reports give it
  bool isDecode = true; ///< else one prompt
  int64_t tokens = 0;   ///< in the step; sequences when decoding
  int64_t context = 0;  ///< positions behind each token when decoding
  double seconds = 0;
};

/// What a target is made of. A plain value.
struct Target {
  std::string name;  ///< as asked for: "h100x8"
  std::string title; ///< for people
  std::string kind;  ///< backend: "host", "cuda" or "rocm"
  std::string host;  ///< what the devices are plugged into, for people

  uint64_t datasheetBytes = 0;      ///< memory as sold
  uint64_t usableBytes = 0;         ///< memory as the driver reports it; of the machine when shared
  bool sharedByRanks = false;       ///< the ranks of a node share usableBytes
  uint64_t contextBytes = 0;        ///< reserve per rank: driver context and loaded modules
  uint64_t collectiveBytes = 0;     ///< reserve per rank of several: the communication library
  uint64_t graphBytesPerLaunch = 0; ///< reserve per launch of a captured program

  double memoryBytesPerSecond = 0;
  std::vector<std::pair<std::string, double>> peaks; ///< operations per second by element type
  double launchSeconds = 0;                          ///< from one kernel to the next
  int64_t tileTokens = 1; ///< rows of tokens that a tile of a product takes

  int64_t devicesPerNode = 1;
  int64_t maxDevicesPerNode = 1;
  int64_t nodes = 1;
  bool countIsFixed = false; ///< whether the name says how many devices there are
  Link intraNode, interNode;
  std::vector<MeasuredStep> measured; ///< of a calibration

  int64_t devices() const { return devicesPerNode * nodes; }
  /// Bytes that the slabs of one rank may take when `ranks` ranks run: what is usable, of a shared
  /// memory the rank's part. 0 when the memory is not known.
  uint64_t bytesPerRank(int64_t ranks) const;
  /// Peak for weights of `format` ("bf16", "f8e4m3:group128", "mxfp4", ...): that of the element
  /// type, else of the next wider one that the device multiplies.
  double peakFor(std::string_view format) const;
  /// The same target with room for `ranks` ranks, when the name left the number of devices open:
  /// nodes are filled one after the other. Fails when there are fewer devices than ranks.
  Result<Target> forRanks(int64_t ranks) const;
};

/// Reads a description: every key is required, no other is allowed. `document` names the text in
/// errors, which also name the key (kDataCorrupt, kNotFound).
Result<Target> parseTarget(std::string_view text, const std::string &document);

/// Replaces the constants that a calibration file holds: the keys of a description, any part of
/// them. The name, if given, must be that of the target. A calibration may also list `measured`
/// steps.
Status applyCalibration(Target &target, std::string_view text, const std::string &document);

/// The target of a name: a description of this build ("h100"), with the number of devices in a node
/// ("h100x8") and of nodes ("h100x8x4"). Fails with kInvalidArgument, listing what is known.
Result<Target> findTarget(std::string_view name);

/// Names of the descriptions in this build.
std::vector<std::string> targetNames();

/// One line per description: its name and what it is.
std::vector<std::string> describeTargets();

/// Physical memory of this machine in bytes.
uint64_t machineMemoryBytes();

} // namespace sluice

#endif // SLUICE_COMPILER_TARGET_TARGET_H
