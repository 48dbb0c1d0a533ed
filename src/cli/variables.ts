import { type SettingName, SETTING_NAMES, SETTINGS } from './settings.ts'

export interface Variable {
  /** Who reads it: commands that ask a server, `orrery up`, `orrery worker`, all; or who finds it in its environment. */
  of: string
  /** What it says, in a sentence. */
  meaning: string
}

/** Every variable beside those of the settings; a test looks through the sources for others. */
export const VARIABLES: Readonly<Record<string, Variable>> = {
  ORRERY_SERVER: { of: 'commands, worker', meaning: 'The server to ask, or to take work from.' },
  ORRERY_TOKEN: { of: 'commands, worker', meaning: 'The token that is shown to it.' },
  ORRERY_CONTEXT: { of: 'commands', meaning: 'A server that was named by `orrery context`.' },
  ORRERY_CA: { of: 'commands, worker', meaning: 'PEM file of an authority to trust beside the known ones.' },
  ORRERY_CONFIG: { of: 'up, worker', meaning: 'YAML file of settings.' },
  ORRERY_ADMIN_TOKEN: { of: 'up', meaning: 'A token of an administrator that the server accepts from the start.' },
  ORRERY_WORKER_TOKEN: {
    of: 'up, worker',
    meaning: 'A token of workers that the server accepts from the start; what a worker shows when there is no other.',
  },
  ORRERY_SECRETS_KEY: { of: 'up, run', meaning: 'The keys that encrypt stored secrets, instead of a file of them.' },
  ORRERY_WORKER_NAME: { of: 'worker', meaning: 'Name of the worker; the name of the host when nobody says.' },
  ORRERY_WORKSPACE: { of: 'worker', meaning: 'Where commands run.' },
  ORRERY_RUN_ID: { of: 'command steps', meaning: 'The run that the command belongs to.' },
  ORRERY_STEP: { of: 'command steps', meaning: 'Name of its step, with indices.' },
  ORRERY_ATTEMPT: { of: 'command steps', meaning: 'Names this attempt for ever; another try has another one.' },
  ORRERY_ATTEMPT_DIR: { of: 'command steps', meaning: 'Marks the processes of the attempt. Leave it alone.' },
  ORRERY_OUTPUT: { of: 'command steps', meaning: 'File for the JSON that is to be the output of the step.' },
  ORRERY_ENV: {
    of: 'command steps',
    meaning: 'With `exportEnv`: file for variables of what comes after, `NAME=VALUE` a line.',
  },
  ORRERY_STAGE: { of: 'command steps', meaning: 'With `setUp` or `tearDown`: `setUp`, `command` or `tearDown`.' },
  ORRERY_OUTCOME: {
    of: 'command steps',
    meaning: 'For a tear-down: `succeeded`, `failed`, `timed_out` or `canceled`.',
  },
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    of: 'up, worker, run',
    meaning: 'Collector of traces; `/v1/traces` is put behind it.',
  },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: { of: 'up, worker, run', meaning: 'The same, as it is.' },
  OTEL_EXPORTER_OTLP_HEADERS: { of: 'up, worker, run', meaning: 'Headers for it: `name=value,…`, percent-encoded.' },
  OTEL_EXPORTER_OTLP_TRACES_HEADERS: { of: 'up, worker, run', meaning: 'The same, stronger.' },
  OTEL_EXPORTER_OTLP_CERTIFICATE: { of: 'up, worker, run', meaning: 'PEM file of an authority to trust there.' },
  OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE: { of: 'up, worker, run', meaning: 'The same, stronger.' },
  OTEL_EXPORTER_OTLP_PROTOCOL: {
    of: 'up, worker, run',
    meaning: '`grpc` is refused with a warning; all else is sent as HTTP with JSON.',
  },
  OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: { of: 'up, worker, run', meaning: 'The same, stronger.' },
  OTEL_EXPORTER_OTLP_TIMEOUT: { of: 'up, worker, run', meaning: 'Milliseconds for one batch of spans.' },
  OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: {
    of: 'up, worker, run',
    meaning: '`true`: spans of agents have in them what was said. Off unless it is `orrery run` without a server.',
  },
  OTEL_BSP_SCHEDULE_DELAY: { of: 'up, worker, run', meaning: 'Milliseconds before a batch is sent.' },
  OTEL_SERVICE_NAME: { of: 'up, worker, run', meaning: 'Name of the service; `orrery-server` or `orrery-worker`.' },
  OTEL_RESOURCE_ATTRIBUTES: { of: 'up, worker, run', meaning: 'What else is said of it: `name=value,…`.' },
  OTEL_TRACES_SAMPLER: { of: 'up, worker, run', meaning: 'Which traces are kept; `parentbased_always_on`.' },
  OTEL_TRACES_SAMPLER_ARG: { of: 'up, worker, run', meaning: 'The share of them, 0 to 1, for samplers by ratio.' },
  OTEL_SDK_DISABLED: { of: 'up, worker, run', meaning: '`true`: no traces.' },
  OTEL_TRACES_EXPORTER: { of: 'up, worker, run', meaning: '`otlp`, or `none` for no traces.' },
  TRACEPARENT: {
    of: 'commands, command steps',
    meaning: 'The span that requests of a command are a part of; for a command step, the span of its attempt.',
  },
  NO_COLOR: { of: 'commands', meaning: 'Not empty: no colours on terminals.' },
  VISUAL: { of: 'edit', meaning: 'The editor.' },
  EDITOR: { of: 'edit', meaning: 'The editor, when there is no `VISUAL`.' },
  XDG_DATA_HOME: { of: 'all', meaning: 'Where data is kept when nobody says; `~/.local/share`.' },
  XDG_CONFIG_HOME: { of: 'all', meaning: 'Where contexts are kept; `~/.config`.' },
  XDG_CACHE_HOME: { of: 'all', meaning: 'Where an empty embedded store is kept for the next start; `~/.cache`.' },
}

/** One row of the reference of settings. */
export interface SettingRow {
  /** In a file of settings. */
  key: SettingName
  flag: string
  variable: string
  fallback: string
  accepted: string
}

/** All settings with what they accept, which is asked of each by giving it what none takes. */
export const settingRows = (): SettingRow[] =>
  SETTING_NAMES.map((key) => {
    const { flag, env, fallback, parse } = SETTINGS[key]
    const refused = parse(null)
    return {
      key,
      flag,
      variable: env,
      fallback: fallback === null || isEmpty(fallback) ? '' : String(fallback),
      accepted: 'wrong' in refused ? refused.wrong.replace('accepted: ', '') : '',
    }
  })

const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0
