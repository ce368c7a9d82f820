# Two stages: a build with everything, and a small image with the three programs and the libraries that they load.
#
#   docker build -t slipway .                                  with BuildKit, the default since Docker 23
#   docker run --rm --user "$(id -u):$(id -g)" -v /data:/data slipway export /data/checkpoint /data/output
#   docker run -v slipway:/var/lib/slipway -p 7070:7070 --entrypoint slipway-server slipway \
#     --listen 0.0.0.0:7070 --http 0.0.0.0:7071 --data /var/lib/slipway/data --artifacts /var/lib/slipway/artifacts
#
# Health of a coordinator: GET /healthz on its --http port, or the standard gRPC health service on --listen. An image
# that serves all three programs has no HEALTHCHECK of its own: give the orchestrator's probe one of the two.
FROM debian:12 AS build
COPY deploy/install-dependencies.sh /source/deploy/
RUN /source/deploy/install-dependencies.sh build
COPY CMakeLists.txt /source/
COPY deploy/cmake /source/deploy/cmake
COPY proto /source/proto
COPY common /source/common
COPY server /source/server
COPY worker /source/worker
COPY client /source/client
RUN cmake -S /source -B /build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSLIPWAY_TESTS=OFF -DCMAKE_INSTALL_PREFIX=/usr/local \
 && cmake --build /build \
 && DESTDIR=/image cmake --install /build --strip
# The packages of the shared libraries that the programs load; the runtime stage installs these and nothing else.
COPY deploy/runtime-packages.sh /source/deploy/
RUN /source/deploy/runtime-packages.sh /image/usr/local/bin/* > /runtime-packages

FROM debian:12-slim
RUN --mount=from=build,source=/runtime-packages,target=/runtime-packages \
    apt-get update -q \
 && xargs -a /runtime-packages apt-get install -q -y --no-install-recommends \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 slipway \
 && useradd --no-log-init --uid 10001 --gid 10001 --home-dir /var/lib/slipway --create-home --shell /usr/sbin/nologin slipway
COPY --from=build /image/usr/local /usr/local
USER 10001:10001
WORKDIR /var/lib/slipway
ENTRYPOINT ["slipway"]
CMD ["--help"]
