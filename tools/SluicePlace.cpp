//===- SluicePlace.cpp - Placements from profiles ---------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The placement solver without a compiler: profiles of one model in, a map of slots to experts out,
// for Sluice or for a serving system that loads such maps.
//
//===------------------------------------------------------------------------===//
#include "runtime/profile/ModelPlacement.h"
#include "runtime/profile/PlacementFile.h"
#include "runtime/profile/ProfileFile.h"
#include "tools/support/Cli.h"

#include <chrono>
#include <cstdio>

using namespace sluice;

namespace {

struct PlaceOptions {
  std::vector<std::string> profiles;
  std::string output, initial, phase = "prefill", format = "sglang";
  int devices = 0, slots = 0, nodes = 1, slotLimit = 0, threads = 0;
  double migrationWeight = 0;
  std::vector<int> batches = {8, 32, 128};
  bool quiet = false;
};

Status place(const PlaceOptions &options) {
  SLUICE_ASSIGN_OR_RETURN(PlacementFormat format, parsePlacementFormat(options.format));
  ModelPlacementRequest request;
  if (options.phase == "decode")
    request.objective = PlacementObjective::kActivatedExperts;
  else if (options.phase != "prefill")
    return invalidArgument("--phase=" + options.phase + ": known are prefill and decode");
  if (options.devices < 1 || options.slots < 1)
    return invalidArgument("--devices=" + std::to_string(options.devices) +
                           " --slots=" + std::to_string(options.slots) + ": both must be positive");
  if (options.devices > options.slots)
    return invalidArgument("--devices=" + std::to_string(options.devices) +
                           " exceeds --slots=" + std::to_string(options.slots) +
                           "; every device must hold at least one expert");
  if (options.nodes < 1 || options.devices % options.nodes != 0)
    return invalidArgument("--nodes=" + std::to_string(options.nodes) +
                           " does not divide --devices=" + std::to_string(options.devices) +
                           "; nodes have equal devices");
  request.devices = options.devices;
  request.slots = options.slots;
  request.devicesPerNode = options.nodes > 1 ? options.devices / options.nodes : 0;
  if (options.slotLimit > 0)
    request.slotLimits.assign(options.devices, options.slotLimit);
  request.batchTokens = options.batches;
  request.migrationCost = options.migrationWeight;
  request.threads = options.threads;

  std::vector<Profile> profiles;
  for (const std::string &path : options.profiles) {
    SLUICE_ASSIGN_OR_RETURN(Profile profile, readProfile(path));
    profiles.push_back(std::move(profile));
  }
  if (!options.initial.empty()) {
    SLUICE_ASSIGN_OR_RETURN(request.initial,
                            readPlacements(options.initial, profiles[0].experts, options.devices));
  }
  auto started = std::chrono::steady_clock::now();
  SLUICE_ASSIGN_OR_RETURN(ModelPlacement result, placeModel(profiles, options.profiles, request));
  double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  std::vector<Placement> placements;
  for (const PlacementDecision &decision : result.layers)
    placements.push_back(decision.placement);
  SLUICE_ASSIGN_OR_RETURN(std::string text, formatPlacements(placements, result.dense, format));
  SLUICE_RETURN_IF_ERROR(writeFileAtomically(options.output, text));
  if (options.quiet)
    return Status::ok();

  int placed = 0, replicated = 0;
  for (size_t l = 0; l < result.layers.size(); ++l) {
    placed += !result.dense[l];
    for (int copies : result.layers[l].replicas)
      replicated += !result.dense[l] && copies > 1;
  }
  std::printf("%s: %d of %zu layers placed, %d experts in %d slots on %d devices, in %.3f s\n",
              options.output.c_str(), placed, result.layers.size(), profiles[0].experts,
              options.slots, options.devices, seconds);
  std::printf("load of the fullest device over the mean: %.4f, at least %.4f with these copies "
              "(means over layers and profiles)\n",
              result.imbalance, result.imbalanceBound);
  if (placed > 0)
    std::printf("replicated experts per layer: %.1f\n", double(replicated) / placed);
  if (result.activatedExperts > 0)
    std::printf("activated experts on the fullest device: %.3f, devices per token %.3f (drawn "
                "batches)\n",
                result.activatedExperts, result.devicesPerToken);
  if (!options.initial.empty())
    std::printf("copies to be moved: %d\n", result.movedCopies);
  return Status::ok();
}

} // namespace

int main(int argc, char **argv) {
  CLI::App app("Places and replicates experts on devices from profiles of their use.");
  cli::setUp(app, "sluice-place");
  PlaceOptions options;
  app.add_option("profiles", options.profiles,
                 "profiles of one model, each a sample of its traffic")
      ->required();
  app.add_option("-o,--output", options.output, "file to write; replaced as a whole")->required();

  auto *system = app.add_option_group("System");
  system->add_option("--devices", options.devices, "devices the experts are spread over")
      ->required();
  system->add_option("--slots", options.slots, "expert slots per layer, over all devices")
      ->required();
  system->add_option("--nodes", options.nodes, "nodes; copies of an expert go to different ones");
  system->add_option("--slots-per-device", options.slotLimit,
                     "most slots a device has memory for, 0 = no limit");

  auto *objective = app.add_option_group("Objective");
  objective->add_option("--phase", options.phase,
                        "prefill: balance tokens; decode: fewest activated experts per device");
  objective->add_option("--batches", options.batches, "decode: tokens per batch, each alike")
      ->delimiter(',')
      ->default_str("8,32,128");
  objective->add_option("--initial", options.initial,
                        "placement in force (sglang or sluice format): move few copies");
  objective
      ->add_option("--migration-weight", options.migrationWeight,
                   "with --initial: what moving one copy must gain, in max/mean load")
      ->check(CLI::NonNegativeNumber);

  auto *output = app.add_option_group("Output");
  output->add_option("--format", options.format, "sglang, trtllm or sluice");
  output->add_option("--threads", options.threads, "layers solved side by side, 0 = all cores")
      ->check(CLI::NonNegativeNumber);
  output->add_flag("--quiet", options.quiet, "no figures");

  if (int code = cli::parse(app, argc, argv); code >= 0)
    return code;
  return cli::exitWith("sluice-place", place(options));
}
