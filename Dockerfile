# bnfold in a container: docker build -t bnfold . && docker run --rm -v "$PWD:/models" bnfold net.onnx
FROM python:3.13-slim AS build
COPY . /source
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir "$(echo /wheels/bnfold-*.whl)[html]" \
    && useradd --uid 1000 --create-home bnfold
USER bnfold
WORKDIR /models
ENTRYPOINT ["bnfold"]
CMD ["--help"]
