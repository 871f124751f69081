//===- MpiLoader.cpp - Opens libsluice_mpi.so -------------------------------===//
//
// Part of the Sluice project, under the Apache License 2.0.
//
// The module and MPI's plug-ins must see one libmpi, so its symbols are made global.
//
//===------------------------------------------------------------------------===//
#include "runtime/collectives/mpi/MpiLoader.h"

#include "runtime/base/Version.h"

#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <string>
#include <vector>

namespace sluice {

namespace {

constexpr char kFileName[] = "libsluice_mpi.so";

std::vector<std::string> candidates() {
  if (const char *given = std::getenv("SLUICE_MPI_MODULE"))
    return {given};
  std::vector<std::string> result;
  std::error_code error;
  const auto folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  if (!error)
    for (const char *place : {".", "../lib", "../" SLUICE_INSTALL_LIBDIR}) {
      const std::string path = (folder / place / kFileName).lexically_normal();
      if (std::filesystem::exists(path, error))
        result.push_back(path);
    }
  result.push_back(kFileName);
  return result;
}

} // namespace

Result<const SluiceMpiModule *> loadMpiModule() {
  const std::string path = candidates().front();
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    const char *reason = dlerror();
    return notFound("collectives backend \"mpi\" cannot open its module " + path + " (" +
                    (reason ? reason : "unknown reason") +
                    "); install Open MPI and a build of Sluice made with it, or name the module in "
                    "SLUICE_MPI_MODULE");
  }
  const auto symbol =
      reinterpret_cast<decltype(&sluiceMpiModule)>(dlsym(library, kSluiceMpiModuleSymbol));
  if (!symbol)
    return dataCorrupt(path + " has no symbol " + kSluiceMpiModuleSymbol +
                       "; it is not a module of Sluice");
  const SluiceMpiModule *module = symbol();
  if (module->structBytes != sizeof(SluiceMpiModule) || std::string(module->version) != kVersion)
    return Status(StatusCode::kVersionMismatch, path + " is of another build than this program (" +
                                                    kVersion + "); install both together");
  return module;
}

} // namespace sluice
