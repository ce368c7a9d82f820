#include "server/services/artifact_service.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "common/digest.h"
#include "server/artifact.h"
#include "server/services/call.h"
#include "server/services/names.h"

namespace slipway::server {
namespace {

constexpr std::int64_t kMaximumChunk = std::int64_t{1} << 20;
constexpr int kMaximumDownloads = 64;

// The artifact's directory, where the export has one.
absl::StatusOr<std::string> DirectoryOf(const absl::StatusOr<ExportView>& view) {
  if (!view.ok()) {
    return view.status();
  }
  const ExportRecord& record = view->record;
  if (record.state == ExportState::kSucceeded) {
    return record.artifact_path;
  }
  return IsFinal(record.state)
             ? Error(Reason::kNotFound,
                     fmt::format("exports/{} is {}: it has no artifact.", record.id, NameOf(record.state)))
             : Error(Reason::kExportNotFinished,
                     fmt::format("exports/{} is {}: there is no artifact yet.", record.id, NameOf(record.state)));
}

absl::Status Overloaded() {
  return Error(Reason::kServerOverloaded, "Too many artifacts are being read; try again in a second.");
}

// One chunk in memory: read, written, and only then the next. Its steps form one chain; members need no lock.
class DownloadReactor final : public grpc::ServerWriteReactor<v1::DownloadArtifactFileResponse>,
                              public std::enable_shared_from_this<DownloadReactor> {
 public:
  DownloadReactor(grpc::CallbackServerContext* context, const v1::DownloadArtifactFileRequest& request, TaskPool& files,
                  Metrics& metrics, ArtifactListings& listings, std::atomic<int>& downloads)
      : context_(context),
        request_(request),
        files_(files),
        metrics_(metrics),
        listings_(listings),
        downloads_(downloads) {
    ++downloads_;
  }
  ~DownloadReactor() override { --downloads_; }

  void Start(Coordinator& coordinator) {
    self_ = shared_from_this();
    const absl::StatusOr<std::string> id = ParseExportName(request_.name());
    if (!id.ok()) {
      End(id.status());
    } else if (request_.offset() < 0 || request_.length() < 0) {
      End(Error(Reason::kInvalidArgument, "offset and length must not be negative."));
    } else if (downloads_ > kMaximumDownloads) {
      End(Overloaded());
    } else {
      coordinator.Get(*id, [self = shared_from_this()](const absl::StatusOr<ExportView>& view) {
        self->InPool([self, directory = DirectoryOf(view)] { self->Open(directory); });
      });
    }
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      End(Error(Reason::kCancelled, "The client went away."));
      return;
    }
    position_ += static_cast<std::int64_t>(chunk_.data().size());
    Continue();
  }

  void OnDone() override { self_.reset(); }

 private:
  void InPool(std::function<void()> task) {
    if (!files_.Submit(std::move(task))) {
      End(Overloaded());
    }
  }

  void Open(const absl::StatusOr<std::string>& directory) {
    if (const absl::Status status = OpenFile(directory); !status.ok()) {
      End(status);
    } else {
      Continue();
    }
  }

  absl::Status OpenFile(const absl::StatusOr<std::string>& directory) {
    SLIPWAY_RETURN_IF_ERROR(directory.status());
    SLIPWAY_ASSIGN_OR_RETURN(const ArtifactListings::Entries entries, listings_.Of(*directory));
    const auto entry = std::ranges::find(*entries, request_.path(), &ArtifactEntry::path);
    if (entry == entries->end()) {
      return Error(Reason::kNotFound, fmt::format("The artifact has no file '{}'.", request_.path().substr(0, 256)));
    }
    if (request_.offset() > entry->size) {
      return Error(Reason::kInvalidArgument, fmt::format("offset is past the file's end, {}.", entry->size));
    }
    SLIPWAY_ASSIGN_OR_RETURN(ArtifactFile file, ArtifactFile::Open(*directory, request_.path()));
    if (file.size() != entry->size) {
      return Error(Reason::kArtifactCorrupt,
                   fmt::format("The file has {} bytes, its manifest says {}.", file.size(), entry->size),
                   Where{.file = request_.path()});
    }
    file_ = std::make_unique<ArtifactFile>(std::move(file));
    position_ = request_.offset();
    const std::int64_t rest = entry->size - position_;
    end_ = position_ + (request_.length() == 0 ? rest : std::min(rest, request_.length()));
    return absl::OkStatus();
  }

  void Continue() {
    if (position_ >= end_) {
      End(absl::OkStatus());
    } else {
      InPool([self = shared_from_this()] { self->ReadChunk(); });
    }
  }

  void ReadChunk() {
    const auto length = static_cast<std::size_t>(std::min(kMaximumChunk, end_ - position_));
    if (const absl::Status status = file_->Read(position_, length, *chunk_.mutable_data()); !status.ok()) {
      End(status);
      return;
    }
    chunk_.set_offset(position_);
    chunk_.set_xxh3(Xxh3(std::as_bytes(std::span(chunk_.data()))));
    StartWrite(&chunk_);
  }

  void End(const absl::Status& status) { Finish(EndCall(status, *context_, metrics_, "DownloadArtifactFile", start_)); }

  grpc::CallbackServerContext* const context_;
  const v1::DownloadArtifactFileRequest request_;
  TaskPool& files_;
  Metrics& metrics_;
  ArtifactListings& listings_;
  std::atomic<int>& downloads_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::unique_ptr<ArtifactFile> file_;
  std::int64_t position_ = 0;
  std::int64_t end_ = 0;
  v1::DownloadArtifactFileResponse chunk_;
  std::shared_ptr<DownloadReactor> self_;
};

absl::Status ListFiles(const absl::StatusOr<std::string>& directory, ArtifactListings& listings,
                       v1::ListArtifactFilesResponse& response) {
  SLIPWAY_RETURN_IF_ERROR(directory.status());
  SLIPWAY_ASSIGN_OR_RETURN(const ArtifactListings::Entries entries, listings.Of(*directory));
  for (const ArtifactEntry& entry : *entries) {
    v1::ArtifactFile& file = *response.add_files();
    file.set_path(entry.path);
    file.set_size(entry.size);
    file.set_digest_algorithm(entry.digest_algorithm);
    file.set_digest(entry.digest);
  }
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* ArtifactServiceImpl::ListArtifactFiles(grpc::CallbackServerContext* context,
                                                                 const v1::ListArtifactFilesRequest* request,
                                                                 v1::ListArtifactFilesResponse* response) {
  auto call = UnaryCall::Make(context, metrics_, "ListArtifactFiles");
  const absl::StatusOr<std::string> id = ParseExportName(request->name());
  if (!id.ok()) {
    call->End(id.status());
    return call.get();
  }
  coordinator_.Get(*id, [this, call, response](const absl::StatusOr<ExportView>& view) {
    const bool taken = files_.Submit([this, call, response, directory = DirectoryOf(view)] {
      call->End(ListFiles(directory, listings_, *response));
    });
    if (!taken) {
      call->End(Overloaded());
    }
  });
  return call.get();
}

grpc::ServerWriteReactor<v1::DownloadArtifactFileResponse>* ArtifactServiceImpl::DownloadArtifactFile(
    grpc::CallbackServerContext* context, const v1::DownloadArtifactFileRequest* request) {
  auto reactor = std::make_shared<DownloadReactor>(context, *request, files_, metrics_, listings_, downloads_);
  reactor->Start(coordinator_);
  return reactor.get();
}

}  // namespace slipway::server
