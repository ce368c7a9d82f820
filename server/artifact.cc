#include "server/artifact.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "common/digest.h"
#include "common/error.h"
#include "common/file_system.h"

namespace slipway::server {
namespace {

constexpr char kManifest[] = "manifest.json";
constexpr std::int64_t kMaximumManifest = std::int64_t{1} << 30;

bool IsConfined(const std::string& path) {
  const std::filesystem::path parsed(path);
  return !path.empty() && path.find('\0') == std::string::npos && parsed.is_relative() &&
         std::ranges::none_of(parsed, [](const auto& part) { return part == ".." || part == "." || part.empty(); });
}

absl::Status Corrupt(const std::string& why, const std::string& file) {
  return Error(Reason::kArtifactCorrupt, why, Where{.file = file});
}

// Builds only the file list: a manifest's tensor list may be a hundred times as long and is of no use here.
nlohmann::json ParseWithoutTensors(const std::string& text) {
  constexpr int kTopLevel = 1;
  return nlohmann::json::parse(
      text,
      [skip = false](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) mutable {
        if (depth == kTopLevel && event == nlohmann::json::parse_event_t::key) {
          skip = parsed == "tensors" || parsed == "source";
        }
        return !skip || event == nlohmann::json::parse_event_t::object_end;
      },
      /*allow_exceptions=*/false);
}

}  // namespace

std::string ManifestOf(const std::string& directory) { return directory + "/" + kManifest; }

absl::StatusOr<std::vector<ArtifactEntry>> ReadArtifactEntries(const std::string& directory) {
  const std::string name = ManifestOf(directory);
  if (!PosixFileSystem().Exists(name)) {
    return Error(Reason::kNotFound, "The artifact is not there any more.", Where{.file = name});
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem().ReadSmallFile(name, kMaximumManifest));
  const nlohmann::json manifest = ParseWithoutTensors(text);
  if (!manifest.is_object() || !manifest.contains("files") || !manifest["files"].is_array()) {
    return Corrupt("The manifest cannot be read.", name);
  }
  std::vector<ArtifactEntry> entries;
  try {
    const std::string algorithm = manifest.at("digest_algorithm");
    for (const nlohmann::json& file : manifest["files"]) {
      entries.push_back({file.at("path"), file.at("size"), algorithm, file.value("digest", "")});
      if (!IsConfined(entries.back().path) || entries.back().size < 0) {
        return Corrupt(fmt::format("The manifest names an impossible file '{}'.", entries.back().path), name);
      }
    }
  } catch (const nlohmann::json::exception& error) {
    return Corrupt(fmt::format("The manifest cannot be read: {}.", error.what()), name);
  }
  entries.push_back({kManifest, static_cast<std::int64_t>(text.size()), "sha256", Sha256(text)});
  std::ranges::sort(entries, {}, &ArtifactEntry::path);
  return entries;
}

std::string ExportOfArtifact(const std::string& directory) {
  const auto text = PosixFileSystem().ReadSmallFile(ManifestOf(directory), kMaximumManifest);
  const nlohmann::json manifest = text.ok() ? ParseWithoutTensors(*text) : nlohmann::json();
  const bool named = manifest.is_object() && manifest.contains("export") && manifest["export"].is_string();
  return named ? manifest["export"].get<std::string>() : std::string();
}

absl::StatusOr<ArtifactFile> ArtifactFile::Open(const std::string& directory, const std::string& path) {
  const std::string name = directory + "/" + path;
  if (!IsConfined(path)) {
    return Error(Reason::kPathOutsideRoot, "The path leaves the artifact.", Where{.file = path});
  }
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::path(name).parent_path();
  const std::filesystem::path root = std::filesystem::canonical(directory, error);
  if (error || std::filesystem::canonical(parent, error) != (root / path).parent_path() || error) {
    return Error(Reason::kPathOutsideRoot, "A link leads out of the artifact.", Where{.file = name});
  }
  const int descriptor = open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) {
    return errno == ENOENT ? Error(Reason::kNotFound, "The file is not there any more.", Where{.file = name})
                           : ErrnoError(errno, "open", name, FileRole::kOther);
  }
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    return Corrupt("It is no regular file.", name);
  }
  return ArtifactFile(descriptor, status.st_size, name);
}

ArtifactFile::ArtifactFile(ArtifactFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_), name_(std::move(other.name_)) {}

ArtifactFile::~ArtifactFile() {
  if (descriptor_ >= 0) {
    close(descriptor_);
  }
}

absl::Status ArtifactFile::Read(std::int64_t offset, std::size_t length, std::string& into) const {
  into.resize(length);
  std::size_t done = 0;
  while (done < length) {
    const ssize_t count =
        pread(descriptor_, into.data() + done, length - done, offset + static_cast<std::int64_t>(done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, "read", name_, FileRole::kOther);
    }
    if (count == 0) {
      return Error(Reason::kArtifactCorrupt, "The file became shorter.",
                   Where{.file = name_, .offset = offset + static_cast<std::int64_t>(done)});
    }
    done += static_cast<std::size_t>(count);
  }
  return absl::OkStatus();
}

}  // namespace slipway::server
