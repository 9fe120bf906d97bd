/** A job of the service as a value that a page shows, and the button that cancels it. */

import type { Client } from "./client.js";
import type { JobOutcome, JobStatus, Reply, StreamEvent } from "../model/model.js";
import { type Fold, watch, type Watched } from "./view.js";

export interface Job {
  readonly name: string;
  /** 0 to 100. */
  readonly percent: number;
  /** The last text of the job. */
  readonly message: string;
  readonly status: JobStatus;
  /** With `failed`: the type of the exception, or "". */
  readonly error: string;
}

export interface WatchedJob extends Watched<Job> {
  /** Ask it to end. Throws as `send`; the code `conflict` says that it has ended. */
  cancel(): Promise<Reply>;
}

/** The fold of `job/<id>`. */
export const JOB_FOLD: Fold<Job, Job> = {
  snapshot: ({ name, percent, message, status, error }) => ({ name, percent, message, status, error }),
  event(job, event: StreamEvent): Job {
    switch (event.type) {
      case "job_started": return { ...job, name: event.name, status: "running" };
      case "job_progress": return { ...job, percent: event.percent, message: event.message || job.message };
      case "job_message": return { ...job, message: event.message };
      case "job_cancel_requested": return { ...job, status: "cancelling" };
      case "job_ended":
        return { ...job, status: event.outcome, error: event.error, message: event.message || job.message };
      default: return job;
    }
  },
};

/** Whether a status is an end. */
export const hasEnded = (status: JobStatus): status is JobOutcome => !["new", "running", "cancelling"].includes(status);

export const cancelJob = (client: Client, id: number): Promise<Reply> => client.send("cancel_job", { job_id: id });

export function watchJob(client: Client, id: number): WatchedJob {
  const watched = watch(client, `job/${id}`, JOB_FOLD);
  return {
    get value() {
      return watched.value;
    },
    subscribe: watched.subscribe,
    close: watched.close,
    cancel: () => cancelJob(client, id),
  };
}
