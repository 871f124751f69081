//===- Cli.h - What every Sluice program does alike ---------------*- C++ -*-===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// Exit codes, the form of error messages, --version, and the progress display. Programs are thin:
// they bind flags to an options struct, call a library and leave through exitWith().
//
//===----------------------------------------------------------------------===//
#ifndef SLUICE_TOOLS_SUPPORT_CLI_H
#define SLUICE_TOOLS_SUPPORT_CLI_H

#include "sluice/status.h"

#include <CLI/CLI.hpp>

#include <chrono>
#include <string>

namespace sluice::cli {

/// Prepares `app` the common way: --version, help layout, exit codes in the footer.
void setUp(CLI::App &app, const std::string &name);

/// Parses the command line. Returns -1 to go on, or the exit code to leave with (0 after --help and
/// --version, 2 after a wrong argument, which has been explained on stderr, unless the
/// process is one of many alike and not the one to `speak`).
int parse(CLI::App &app, int argc, char **argv, bool speak = true);

/// Prints an error as "<program>: <message>" on stderr and returns the exit code: the numeric value
/// of the status code (docs/cli.md lists them). Ok gives 0 and prints nothing.
int exitWith(const std::string &program, const Status &status);

/// Progress of long work: a bar redrawn in place when stderr is a terminal, else a line at the end
/// of every stage. Silent for stages shorter than half a second. Not thread-safe.
class Progress {
public:
  explicit Progress(bool enabled = true);
  ~Progress() { finish(); }
  /// `done` of `total` units of `stage` are finished; a new stage name ends the previous one.
  void update(const std::string &stage, uint64_t done, uint64_t total);
  /// Ends the current stage.
  void finish();

private:
  void draw(bool last);
  bool enabled, terminal;
  std::string stage;
  uint64_t done = 0, total = 0;
  std::chrono::steady_clock::time_point started, drawn;
};

} // namespace sluice::cli

#endif // SLUICE_TOOLS_SUPPORT_CLI_H
