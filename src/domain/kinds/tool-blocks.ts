import { z } from 'zod'
import type { Json } from '../../base/json.ts'
import { LIMITS } from '../limits.ts'
import { duration, positiveDuration, secretRef } from '../schema.ts'
import { dnsName } from './envelope.ts'

/** Text with `${{ inputs.… }}` in it, filled in for each call. */
const template = z.string().max(8_192, { error: 'is longer than 8192 characters' }).meta({ title: 'template' })
const json = z.custom<Json>((value) => value !== undefined).meta({ title: 'any JSON' })

/** A place that is called: what a call says may stand after the host alone. */
const url = template

const headers = z
  .record(z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/, { error: 'is no name of a header' }), template)
  .optional()

const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/
const env = z
  .record(
    z.string().regex(ENV_NAME, { error: 'is no name of a variable: letters, digits and _' }),
    z.union([template, secretRef], { error: 'must be a text, or a secret with its key' }),
  )
  .optional()
  .describe('Its environment, and nothing else: a text, or one key of a secret.')

const stdin = z
  .enum(['input', 'envelope', 'none'])
  .describe('What it reads: the input as JSON, the whole call (see `external`), or nothing.')
const output = z
  .enum(['text', 'json', 'envelope'])
  .describe(
    'How its standard output is read: as text, as one JSON value, or as a result such as `external` tools give.',
  )

/** What of an answer counts as success, by status. */
export const STATUS_MEANINGS = ['ok', 'fail', 'retry'] as const
export type StatusMeaning = (typeof STATUS_MEANINGS)[number]

export const httpBlock = z.strictObject({
  url: url.describe('`http` or `https`; what a call fills in behind the host is encoded.'),
  method: z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']).default('POST').describe('Of the request.'),
  query: z
    .record(z.string().min(1).max(256), template)
    .optional()
    .describe('Parameters behind the `?`; one whose value is null is left out, one that is a list is repeated.'),
  headers: headers.describe('Headers of the request; one whose value is null is left out.'),
  body: json.optional().describe('JSON with templates in it; left out, the whole input. Not for GET and HEAD.'),
  bodyAs: z
    .enum(['json', 'form', 'text'])
    .default('json')
    .describe('How the body is written: as JSON, as fields of a form, or as text as it is.'),
  response: z
    .enum(['auto', 'json', 'text', 'whole'])
    .default('auto')
    .describe('`auto` reads JSON where the answer says that it is; `whole` is status, headers and body.'),
  statuses: z
    .record(
      z.string().regex(/^[1-5](\d\d|xx)$/, { error: 'must be a status such as 404, or a class such as 4xx' }),
      z.enum(STATUS_MEANINGS),
    )
    .optional()
    .describe('What a status means, where that is not the usual: 2xx `ok`, 408, 429 and 5xx `retry`, others `fail`.'),
})

export const externalBlock = z.strictObject({
  url: url.describe('What the whole call is posted to, and answers with a result.'),
  headers: headers.describe('Headers of the request; one whose value is null is left out.'),
})

export const callbackBlock = z.strictObject({
  url: url.describe('What the input is posted to. It answers at once, or with 202 and where to look.'),
  headers: headers.describe('Headers of the request; one whose value is null is left out.'),
  body: json.optional().describe('JSON with templates in it; left out, the whole input.'),
  location: z
    .string()
    .regex(/^(\/[^/]*)+$/, { error: 'must be a JSON pointer such as /status/url' })
    .optional()
    .describe('Where in the 202 the address stands; left out, in its header `Location`.'),
  interval: positiveDuration.default(2_000).describe('Between two looks, where the answer names no time.'),
  maxPolls: z.int().min(1).max(100_000).default(1_000).describe('Looks of one call; one more is `tool.timeout`.'),
  pending: z
    .strictObject({
      path: z
        .string()
        .regex(/^(\/[^/]*)+$/, { error: 'must be a JSON pointer such as /state' })
        .describe('JSON pointer into the answer.'),
      values: z.array(json).min(1).max(64).describe('While one of these stands there it is looked again.'),
    })
    .optional()
    .describe('For places that answer 200 while they work; 202 and 204 are always taken for that.'),
})

export const grpcBlock = z.strictObject({
  target: z
    .string()
    .max(300)
    .regex(/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$/, { error: 'must be HOST:PORT, such as tools.example:443' })
    .describe('HOST:PORT.'),
  proto: z
    .string()
    .min(1)
    .max(LIMITS.protoChars)
    .describe('The text of a .proto file with the service; it may import `google/protobuf/*` alone.'),
  service: z.string().min(1).max(256).describe('With its package, such as `acme.v1.Search`.'),
  method: z.string().min(1).max(256).describe('A method that takes one message and gives one.'),
  request: json.optional().describe('The message, with templates in it; left out, the whole input.'),
  metadata: headers.describe('What goes with the call; one whose value is null is left out.'),
  tls: z.boolean().default(true).describe('False: in the clear.'),
})

export const commandBlock = z.strictObject({
  argv: z
    .array(template)
    .min(1)
    .max(256)
    .describe('Program and arguments; no shell reads them. `./NAME` is a file of the tools of the worker.'),
  stdin: stdin.default('input'),
  output: output.default('text'),
  env,
  exitCodes: z.array(z.int().min(0).max(255)).min(1).max(64).default([0]).describe('Codes that are success.'),
  retryCodes: z
    .array(z.int().min(1).max(255))
    .min(1)
    .max(64)
    .optional()
    .describe('Codes of failures that pass by themselves, such as 75.'),
  limits: z
    .strictObject({
      memoryBytes: z
        .int()
        .min(16 * 1024 * 1024)
        .default(512 * 1024 * 1024)
        .describe('Memory that each of its processes may write to.'),
      cpu: positiveDuration
        .default(60_000)
        .describe('Time of the processor, of each of its processes; at least a second.'),
      processes: z
        .int()
        .min(1)
        .max(4_096)
        .default(64)
        .describe(
          'Processes and threads at once, in a sandbox; not for a worker that is run by root, and from Linux 5.14 on.',
        ),
      fileBytes: z
        .int()
        .min(0)
        .default(64 * 1024 * 1024)
        .describe('Largest file that it may write, and all of its own /tmp.'),
    })
    .prefault({})
    .describe('What it may take.'),
})

export const wasmBlock = z.strictObject({
  module: z
    .string()
    .min(1)
    .max(1_024)
    .describe('A WASI command, as a path below the files of the tools of the worker.'),
  sha256: z
    .string()
    .regex(/^[0-9a-f]{64}$/, { error: 'must be 64 hexadecimal digits in lower case' })
    .optional()
    .describe('Of the module; another one is not run.'),
  args: z.array(template).max(256).optional().describe('Arguments behind its name.'),
  stdin: stdin.default('envelope'),
  output: output.default('envelope'),
  env,
  memoryBytes: z
    .int()
    .min(65_536)
    .max(4 * 1024 * 1024 * 1024)
    .default(64 * 1024 * 1024)
    .describe('Largest memory that its module may declare.'),
  cpu: positiveDuration.default(10_000).describe('How long it may run; more is `tool.wasm_limit`.'),
})

export const mcpBlock = z.strictObject({
  server: dnsName.describe('Name of an McpServer of the same namespace.'),
  tool: z.string().min(1).max(256).describe('As the server calls it.'),
})

export const AUTH_TYPES = ['bearer', 'header', 'basic', 'oauth2'] as const

export const authBlock = z.strictObject({
  type: z.enum(AUTH_TYPES).describe('How the tool is shown who calls.'),
  token: secretRef.optional().describe('For `bearer`.'),
  name: z
    .string()
    .regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/, { error: 'is no name of a header' })
    .optional()
    .describe('For `header`: its name.'),
  value: secretRef.optional().describe('For `header`: its value.'),
  username: z
    .union([z.string().min(1).max(256), secretRef], { error: 'must be a text, or a secret with its key' })
    .optional()
    .describe('For `basic`.'),
  password: secretRef.optional().describe('For `basic`.'),
  tokenUrl: z
    .string()
    .max(2_048)
    .refine((text) => /^https?:$/.test(URL.parse(text)?.protocol ?? ''), {
      error: 'must be an address such as https://login.example/oauth/token',
    })
    .optional()
    .describe('For `oauth2` (client credentials): who gives tokens.'),
  clientId: z
    .union([z.string().min(1).max(1_024), secretRef], { error: 'must be a text, or a secret with its key' })
    .optional()
    .describe('For `oauth2`.'),
  clientSecret: secretRef.optional().describe('For `oauth2`.'),
  scopes: z.array(z.string().min(1).max(256)).min(1).max(64).optional().describe('For `oauth2`: what is asked for.'),
  audience: z.string().min(1).max(1_024).optional().describe('For `oauth2`: whom the token is for.'),
  clientIn: z
    .enum(['header', 'body'])
    .optional()
    .describe('For `oauth2`: how the client is named to who gives tokens; left out, `header`.'),
})

export const retryBlock = z.strictObject({
  max: z
    .int()
    .min(0)
    .max(20)
    .default(2)
    .describe(
      'Tries after the first one, for what passes by itself; of what is not repeatable only before anything was sent.',
    ),
  initial: duration.default(500).describe('Wait before the first of them, when the tool names no time.'),
  maxDelay: duration.default(30_000).describe('Longest wait. A tool that asks for a longer one is not tried again.'),
  factor: z.number().min(1).max(100).default(2).describe('Each wait is so many times the one before.'),
  jitter: z.number().min(0).max(1).default(0.2).describe('Share of a wait that is left to chance.'),
})
