//===- Cli.cpp - What every Sluice program does alike -----------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
//===----------------------------------------------------------------------===//
#include "tools/support/Cli.h"

#include "runtime/base/Version.h"

#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace sluice::cli {

namespace {
constexpr char kExitCodes[] = "Exit codes: 0 done, 1 defect of Sluice, 2 wrong argument, 3 not "
                              "found, 4 corrupt data, 5 unsupported,\n"
                              "6 does not fit, 7 input/output error, 8 newer version, 9 device "
                              "error, 10 aborted, 11 check failed.";
} // namespace

void setUp(CLI::App &app, const std::string &name) {
  app.name(name);
  app.set_version_flag("--version", name + " " + kVersion);
  app.footer(kExitCodes);
  app.get_formatter()->column_width(34);
  app.option_defaults()->always_capture_default();
}

int parse(CLI::App &app, int argc, char **argv, bool speak) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success &outcome) {
    return app.exit(outcome);
  } catch (const CLI::ParseError &error) {
    if (speak)
      std::fprintf(stderr, "%s: %s\nrun '%s --help' for the flags\n", app.get_name().c_str(),
                   error.what(), app.get_name().c_str());
    return int(StatusCode::kInvalidArgument);
  }
  return -1;
}

int exitWith(const std::string &program, const Status &status) {
  if (!status.isOk())
    std::fprintf(stderr, "%s: %s\n", program.c_str(), status.toString().c_str());
  return int(status.code());
}

Progress::Progress(bool enabled) : enabled(enabled), terminal(isatty(STDERR_FILENO) != 0) {}

void Progress::update(const std::string &newStage, uint64_t newDone, uint64_t newTotal) {
  using namespace std::chrono_literals;
  auto now = std::chrono::steady_clock::now();
  if (newStage != stage) {
    finish();
    stage = newStage;
    started = drawn = now;
  }
  done = newDone;
  total = newTotal;
  if (enabled && terminal && now - started > 500ms && now - drawn > 100ms) {
    draw(false);
    drawn = now;
  }
}

void Progress::finish() {
  using namespace std::chrono_literals;
  if (enabled && !stage.empty() && std::chrono::steady_clock::now() - started > 500ms)
    draw(true);
  stage.clear();
}

void Progress::draw(bool last) {
  double fraction = total ? double(done) / double(total) : 1.0;
  double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  if (!terminal) {
    std::fprintf(stderr, "%s: %.0f %% in %.1f s\n", stage.c_str(), 100 * fraction, seconds);
    return;
  }
  constexpr int width = 32;
  int filled = std::clamp(int(fraction * width), 0, width);
  std::fprintf(stderr, "\r%-24s [%.*s%.*s] %3.0f %% %6.1f s%s", stage.c_str(), filled,
               "################################", width - filled,
               "                                ", 100 * fraction, seconds, last ? "\n" : "");
  std::fflush(stderr);
}

} // namespace sluice::cli
