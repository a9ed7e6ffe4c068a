"""The HTTP API and the page, as a FastAPI application."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from asnet import __version__
from asnet.deblurring.deblurrer import Deblurrer, Progress
from asnet.deblurring.kernel_search import Status
from asnet.deblurring.line_kernels import line_kernel
from asnet.imaging import write_kernel
from asnet.web.deblurring import Outcome, deblur_upload
from asnet.web.form import DeblurForm, check_fields
from asnet.web.guard import Guard
from asnet.web.jobs import Job, JobQueue, QueueFullError, Stage, State, UnknownJobError
from asnet.web.problems import add_problems, described_problems

#: Seconds between checks whether a job has ended.
_PATIENCE = 0.1

FileName = Literal["result", "before", "after", "kernel-view.png", "kernel.png", "kernel.npy"]


@dataclass(frozen=True)
class Limits:
    """Limits of the server.

    Parameters
    ----------
    upload_bytes : int
        Size of a request: photograph, kernel and options.
    pixels : int
        Pixels of a photograph.
    waiting : int
        Photographs that may wait while one is being deblurred.
    """

    upload_bytes: int = 200_000_000
    pixels: int = 50_000_000
    waiting: int = 8


class Service(BaseModel):
    """Properties and limits of the server."""

    version: str
    model_kernel_size: int = Field(description="Side in pixels of the largest blur kernel at scale 1.")
    upload_bytes: int = Field(description="Largest request in bytes.")
    pixels: int = Field(description="Most pixels of a photograph.")


class JobStatus(BaseModel):
    """Progress of a deblurring, and its result once it is done."""

    id: str
    name: str
    state: State
    position: int | None = Field(description="Photographs before this one while it waits.")
    stage: Stage | None = Field(description="Current stage while it runs.")
    share: float = Field(description="Finished share of the stage, from 0 to 1.")
    message: str | None = Field(description="Why it failed, in one sentence.")
    result: "JobResult | None" = None


class JobResult(BaseModel):
    """Result of a finished deblurring."""

    result_name: str = Field(description="File name of the result.")
    width: int
    height: int
    kernel_size: int = Field(description="Side of the blur kernel's grid in pixels of the photograph.")
    kernel_extent: int = Field(description="Side of the centred square that holds almost all of the kernel.")
    scale: int = Field(
        description="Factor by which the photograph was downscaled, or at which it was judged."
    )
    status: Status = Field(description="A photograph that is 'sharp' or 'unclear' is left unchanged.")
    notes: list[str] = Field(description="What could not be kept from the photograph's file, in sentences.")


class _Service:
    """State shared by the routes: the queue and the folder of its files, for the lifetime of the server."""

    def __init__(self, deblurrer: Deblurrer, limits: Limits) -> None:
        self.deblurrer = deblurrer
        self.limits = limits
        self.queue: JobQueue
        self.folder: Path

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory(prefix="asnet-serve-", ignore_cleanup_errors=True) as folder:
            self.folder = Path(folder)
            self.queue = JobQueue(self._process, self.limits.waiting)
            try:
                yield
            finally:
                await run_in_threadpool(self.queue.close)

    def _process(self, job: Job, progress: Progress) -> Outcome:
        return deblur_upload(
            job.request,
            self.deblurrer,
            largest=self.limits.pixels,
            previews=job.previews,
            progress=progress,
        )

    def submit(self, form: DeblurForm, *, previews: bool) -> Job:
        self.queue.check_room()
        job = Job(form.save(self.folder), previews)
        try:
            self.queue.submit(job)
        except QueueFullError:
            shutil.rmtree(job.request.photograph.parent)
            raise
        return job

    def stop(self) -> None:
        self.queue.stop()

    def status(self, job: Job) -> JobStatus:
        outcome = job.outcome
        return JobStatus(
            id=job.id,
            name=job.request.name,
            state=job.state,
            position=self.queue.position(job),
            stage=job.stage,
            share=job.share,
            message=job.message,
            result=None
            if outcome is None
            else JobResult(
                result_name=outcome.result_name,
                width=outcome.width,
                height=outcome.height,
                kernel_size=outcome.kernel_size,
                kernel_extent=outcome.kernel_extent,
                scale=outcome.scale,
                status=outcome.status,
                notes=list(outcome.notes),
            ),
        )


def create_application(
    deblurrer: Deblurrer, limits: Limits | None = None, *, hosts: Container[str] | None = None
) -> FastAPI:
    """Return the application that serves the page and the API.

    Parameters
    ----------
    deblurrer : Deblurrer
        The networks; it is used by one thread at a time.
    limits : Limits, optional
        Limits of uploads and the queue.
    hosts : container of str, optional
        Names under which browsers may address the server; any by default.

    Returns
    -------
    FastAPI
        Its `state.stop` cancels all jobs, so that requests that wait for one are answered.
    """
    limits = limits or Limits()
    service = _Service(deblurrer, limits)
    # FastAPI's documentation pages load external scripts.
    application = FastAPI(
        title="asnet",
        version=__version__,
        description="Removes motion blur from photographs.",
        openapi_url="/api/schema.json",
        docs_url=None,
        redoc_url=None,
        lifespan=service.running,
    )
    application.add_middleware(Guard, hosts=hosts, largest_body=limits.upload_bytes)
    add_problems(application)
    _add_deblur(application, service)
    _add_jobs(application, service)
    application.state.stop = service.stop
    page = str(files("asnet.web") / "page")
    application.mount("/", StaticFiles(directory=page, html=True), name="page")
    return application


def _add_deblur(application: FastAPI, service: _Service) -> None:
    @application.post(
        "/api/deblur",
        dependencies=[Depends(check_fields)],
        summary="Deblur a photograph and return it",
        response_class=FileResponse,
        responses={
            200: {
                "description": "The deblurred photograph, in the format of the upload (HEIC, AVIF: JPEG).",
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
                "headers": {
                    "X-Asnet-Status": {
                        "description": "blurred, sharp or unclear",
                        "schema": {"type": "string"},
                    },
                    "X-Asnet-Scale": {"description": "see JobResult", "schema": {"type": "integer"}},
                    "X-Asnet-Notes": {
                        "description": "a JSON list of sentences",
                        "schema": {"type": "string"},
                    },
                },
            },
            **described_problems(413, 422, 503, 507),
        },
    )
    async def deblur(request: Request, form: Annotated[DeblurForm, Depends()]) -> Response:
        """Wait for the result; a client that hangs up cancels it."""
        job = await run_in_threadpool(service.submit, form, previews=False)
        try:
            while job.ended is None and not await request.is_disconnected():
                await asyncio.sleep(_PATIENCE)
        finally:
            if job.outcome is None:
                service.queue.discard(job.id)
        if job.outcome is None:
            code = 422 if job.state == "failed" else 503
            return JSONResponse({"detail": job.message or "the deblurring was cancelled"}, code)
        return FileResponse(
            job.outcome.files["result"],
            filename=job.outcome.result_name,
            headers={
                "X-Asnet-Status": job.outcome.status,
                "X-Asnet-Scale": str(job.outcome.scale),
                "X-Asnet-Notes": json.dumps([*job.outcome.notes, *job.outcome.remarks]),
            },
            background=BackgroundTask(service.queue.discard, job.id),
        )


def _add_jobs(application: FastAPI, service: _Service) -> None:
    @application.get("/api", summary="Properties and limits of the server")
    def describe() -> Service:
        return Service(
            version=__version__,
            model_kernel_size=service.deblurrer.kernel_size,
            upload_bytes=service.limits.upload_bytes,
            pixels=service.limits.pixels,
        )

    @application.post(
        "/api/jobs",
        summary="Queue a photograph for deblurring",
        dependencies=[Depends(check_fields)],
        status_code=202,
        responses=described_problems(413, 422, 503, 507),
    )
    def submit(form: Annotated[DeblurForm, Depends()]) -> JobStatus:
        return service.status(service.submit(form, previews=True))

    @application.get("/api/jobs/{identifier}", summary="How far it is", responses=described_problems(404))
    def status(identifier: str) -> JobStatus:
        return service.status(service.queue.get(identifier))

    @application.delete(
        "/api/jobs/{identifier}",
        summary="Cancel it, and delete its files",
        status_code=204,
        responses=described_problems(404),
    )
    def remove(identifier: str) -> None:
        service.queue.discard(service.queue.get(identifier).id)

    @application.get(
        "/api/jobs/{identifier}/{file}",
        summary="Fetch the result, the kernel, or the photograph and result in a format for browsers",
        response_class=FileResponse,
        responses={
            200: {
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
            },
            **described_problems(404, 409),
        },
    )
    def fetch(identifier: str, file: FileName) -> Response:
        job = service.queue.get(identifier)
        if job.outcome is None:
            return JSONResponse({"detail": f"{job.request.name} has no result: it is {job.state}"}, 409)
        if file not in job.outcome.files:
            raise UnknownJobError(f"this job has no {file}")
        return FileResponse(
            job.outcome.files[file], filename=job.outcome.result_name if file == "result" else None
        )

    @application.get(
        "/api/line.png",
        summary="An image of the blur kernel of a straight motion",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **described_problems(422)},
    )
    def draw_line(
        length: Annotated[float, Query(description="Pixels.")],
        angle: Annotated[float, Query(description="Degrees counter-clockwise from the horizontal.")],
    ) -> Response:
        kernel = line_kernel(length, angle)
        with tempfile.TemporaryDirectory(dir=service.folder) as folder:
            path = Path(folder) / "line.png"
            write_kernel(path, kernel)
            return Response(path.read_bytes(), media_type="image/png")
