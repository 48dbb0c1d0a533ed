import path from 'node:path'
import { parseDuration } from '../../base/index.ts'
import type { Client } from '../../client/client.ts'
import type { RunView } from '../../contract/api-types.ts'
import { Failure, failureOfProblems, failureRecord } from '../../domain/failure.ts'
import { FAILURES } from '../../domain/failures.ts'
import { checkInputs } from '../../domain/inputs.ts'
import { API_VERSION, DEFAULT_NAMESPACE } from '../../domain/kinds/envelope.ts'
import { compileWorkflow } from '../../domain/manifest.ts'
import { getConfig } from '../config.ts'
import { SECRET_SETTINGS } from '../settings.ts'
import type { CliDeps } from '../deps.ts'
import { readInputs, readText } from '../inputs.ts'
import { EXIT_OF_SIGNAL, Interrupts } from '../interrupts.ts'
import type { Output } from '../output.ts'
import { RunApprovals } from '../run-approvals.ts'
import { answerApproval } from '../run-asking.ts'
import { watchReasons } from '../run-reasons.ts'
import { watchAgents } from '../run-agents.ts'
import { createRunDisplay, type RunDisplay } from '../run-display.ts'
import { type RunManifest, readRunManifest } from '../run-manifest.ts'
import { exitOfRun, findFailedSteps, isRunEnded, outcomeLines, outputsOf, tookOfRun } from '../run-report.ts'
import { usageFailure } from '../usage.ts'
import { readManifests, textOfDocuments } from '../resource-files.ts'
import { connectTo } from './apply.ts'

export interface RunFlags {
  yes?: boolean
  workflow?: string
  filename?: string[]
  input?: string[]
  inputs?: string
  label?: string[]
  idempotencyKey?: string
  server?: string
  token?: string
  context?: string
  ca?: string
  detach?: boolean
  timeout?: string
  store?: string
  postgresDsn?: string
  dataDir?: string
  secretsKeyFile?: string
  secretsDir?: string
  secretsEnvPrefix?: string
  toolFiles?: string
  toolCommands?: string
  capacity?: string
  namespace?: string
}

/** Failed steps whose failure is shown in full. */
const SHOWN_FAILURES = 3
/** How long leaving waits for the engine in this process to close its store. */
const LEAVE_MS = 3_000

interface Place {
  client: Client
  embedded: boolean
  close(): Promise<void>
}

/** `orrery run FILE`: checks the manifest here, starts the run, follows it to its end. */
export async function runWorkflow(deps: CliDeps, output: Output, file: string, flags: RunFlags): Promise<number> {
  const timeoutMs = flags.timeout === undefined ? null : parseTimeout(flags.timeout)
  if (flags.yes && flags.detach)
    throw usageFailure('--yes cannot be used together with --detach', 'Approving needs this command to follow the run.')
  const stored = await findStored(deps, file, flags)
  const source = stored ?? (await readSource(deps, output, file, flags))
  const { definition } = source
  const inputs = await readInputs(deps, { inputs: flags.inputs, input: flags.input ?? [], schema: definition.inputs })
  // The server checks them too; here it costs nothing and is said before anything was started.
  checkInputs(definition, inputs)
  const labels = readLabels(flags.label ?? [])
  const base = file === '-' ? deps.cwd : path.dirname(path.resolve(deps.cwd, file))
  const modules = Object.fromEntries(
    Object.entries(source.modules).map(([name, module]) => [name, path.resolve(base, module)]),
  )
  const interrupts = new Interrupts(deps)
  const left = new AbortController()
  let place: Place | null = null
  const work = async (): Promise<number> => {
    place = stored
      ? { client: stored.client, embedded: false, close: async () => {} }
      : await openPlace(deps, flags, modules)
    await storeBeside(place, output, source)
    const created = await place.client.createRun(
      { ...(await source.request(place.client)), inputs, labels },
      flags.idempotencyKey === undefined ? {} : { idempotencyKey: flags.idempotencyKey },
    )
    for (const warning of created.warnings) output.remark(`warning: ${warning}`)
    const run = created.run ?? (await place.client.getRun(created.id))
    if (flags.detach) return detached(output, place.client, run)
    return follow({ deps, output, place, run, interrupts, timeoutMs, left: left.signal, yes: flags.yes === true })
  }
  try {
    const leave = interrupts.second.then((signal) => {
      left.abort()
      return EXIT_OF_SIGNAL[signal]
    })
    const working = work()
    working.catch(() => {}) // when a second signal wins the race, how the work ended is no longer of interest
    return await Promise.race([working, leave])
  } finally {
    interrupts.stop()
    // Set inside `work`, which flow analysis does not see.
    const opened = place as Place | null
    if (opened) await (left.signal.aborted ? closeSoon(deps, opened) : opened.close())
  }
}

async function readSource(deps: CliDeps, output: Output, file: string, flags: RunFlags): Promise<RunManifest> {
  if (flags.namespace !== undefined)
    throw usageFailure(
      '--namespace is for workflows that are stored on a server',
      'The manifest of a file says its namespace itself, at metadata.namespace.',
    )
  const manifest = file === '-' ? await deps.stdin.readText() : await readText(deps, file, 'the manifest')
  const shownAs = file === '-' ? 'stdin' : file
  output.sources[shownAs] = manifest
  const paths = flags.filename ?? []
  const more = paths.length === 0 ? [] : await readManifests(deps, output, { paths, recursive: false, namespace: null })
  return readRunManifest(manifest, { file: shownAs, workflow: flags.workflow, more })
}

/**
 * Agents and whatever else stands beside the workflow: kept in the store of an engine in this process. On a server they are other people's too, and
 * are not changed by starting a run.
 */
async function storeBeside({ client, embedded }: Place, output: Output, { beside }: RunManifest): Promise<void> {
  if (beside.length === 0) return
  const { resources } = await client.resources.apply(textOfDocuments(beside), { dryRun: !embedded })
  const changed = resources.filter(({ outcome }) => outcome !== 'unchanged')
  if (changed.length === 0) return
  const names = changed.map(({ kind, name }) => `${kind} ${name}`).join(', ')
  if (embedded) return output.remark(`stored ${names}`)
  throw usageFailure(
    `the files have ${names}, which the server does not have as they are`,
    'A run on a server uses what is stored there. Store them first: orrery apply -f FILE.',
  )
}

/** A workflow that is stored on a server; null when the word is that of a file. */
async function findStored(
  deps: CliDeps,
  word: string,
  flags: RunFlags,
): Promise<(RunManifest & { client: Client }) | null> {
  const [, name, version] = /^([a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:@([1-9]\d{0,8}))?$/.exec(word) ?? []
  if (name === undefined || (await isFile(deps, word))) return null
  const local = [
    flags.store,
    flags.postgresDsn,
    flags.dataDir,
    flags.capacity,
    flags.toolFiles,
    flags.toolCommands,
  ].some((flag) => flag !== undefined)
  if (local)
    throw usageFailure(
      `${word} is no file, and a stored workflow runs on its server`,
      'Name a file, or leave out --store, --postgres-dsn, --data-dir, --tool-files, --tool-commands and --capacity.',
    )
  if (flags.filename !== undefined) throw usageFailure(`--filename adds to the manifest of a file, and ${word} is none`)
  if (flags.workflow !== undefined)
    throw usageFailure(`--workflow chooses one of the workflows of a file, and ${word} is none`)
  const client = await connectTo(deps, flags)
  const namespace = flags.namespace ?? DEFAULT_NAMESPACE
  const ref = { kind: 'Workflow', namespace, name } as const
  const found = await client.resources
    .getVersion(ref, version === undefined ? 'active' : Number(version))
    .catch((error: unknown) => {
      if (!(error instanceof Failure) || error.code !== 'client.server_unreachable') throw error
      throw new Failure(error.code, `${word} is no file here; looking for a stored workflow of this name`, {
        cause: error,
        ...(error.evidence ? { evidence: error.evidence } : {}),
        remediation: `Correct the path when a file was meant. ${error.remediation}`,
      })
    })
  const compiled = compileWorkflow({
    apiVersion: API_VERSION,
    kind: 'Workflow',
    metadata: { name, namespace },
    spec: found.spec,
  })
  if (!compiled.ok) throw failureOfProblems(compiled.problems, `reading ${word} as the server keeps it`)
  const request = { workflowRef: word, namespace }
  const nothing = { modules: {}, beside: [], remarks: [] }
  return { client, definition: compiled.definition, ...nothing, request: () => Promise.resolve(request) }
}

const isFile = (deps: CliDeps, word: string): Promise<boolean> =>
  deps.readFile(path.resolve(deps.cwd, word)).then(
    () => true,
    () => false,
  )

/** Closes, or gives up waiting for it after a while. */
async function closeSoon(deps: CliDeps, place: Place): Promise<void> {
  const closed = new AbortController()
  const giveUp = deps.clock.sleep(LEAVE_MS, closed.signal).catch(() => {}) // rejects when it was closed in time
  await Promise.race([place.close().finally(() => closed.abort()), giveUp])
}

function parseTimeout(text: string): number {
  const ms = parseDuration(text)
  if (ms === null || ms === 0) {
    throw usageFailure(`--timeout ${text} is no duration`, 'Write a duration such as 30s, 5m or 1h30m.')
  }
  return ms
}

function readLabels(pairs: string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=')
      if (at < 1) throw usageFailure(`--label ${pair} has not the form name=value`)
      return [pair.slice(0, at), pair.slice(at + 1)]
    }),
  )
}

/** A server when one was named or the run shall outlive this command, else an engine in this process. */
async function openPlace(deps: CliDeps, flags: RunFlags, modules: Record<string, string>): Promise<Place> {
  const { store, postgresDsn, dataDir, toolFiles, toolCommands, capacity } = flags
  const { secretsKeyFile, secretsDir, secretsEnvPrefix } = flags
  const tools = { toolFiles, toolCommands }
  const local = { store, postgresDsn, dataDir, ...tools, capacity, secretsKeyFile, secretsDir, secretsEnvPrefix }
  const given = Object.entries(local).filter(([, value]) => value !== undefined)
  const isRemote =
    flags.server !== undefined ||
    flags.context !== undefined ||
    flags.detach === true ||
    (given.length === 0 && (deps.env['ORRERY_SERVER'] || deps.env['ORRERY_CONTEXT']))
  if (isRemote) {
    if (given.length > 0) {
      const names = given.map(([name]) => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`).join(', ')
      throw usageFailure(
        `${names} cannot be used together with ${flags.server !== undefined ? '--server' : flags.context !== undefined ? '--context' : '--detach'}`,
        'The server has a store of its own; leave one of them out.',
      )
    }
    const client = await connectTo(deps, flags)
    return { client, embedded: false, close: async () => {} }
  }
  const config = getConfig({
    flags: Object.fromEntries(given),
    env: deps.env,
    file: null,
    cwd: deps.cwd,
    only: ['store', 'postgresDsn', 'dataDir', 'toolFiles', 'toolCommands', 'capacity', 'labels', ...SECRET_SETTINGS],
  })
  try {
    const embedded = await deps.startEmbedded({
      store: config.store,
      dataDir: config.dataDir,
      secrets: config.secrets,
      modules,
      programs: config.programs,
      capacity: config.capacity,
      labels: config.labels,
    })
    return { client: embedded.client, embedded: true, close: () => embedded.close() }
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'storage.locked') throw error
    throw new Failure(error.code, error.message, {
      cause: error.cause,
      ...(error.evidence ? { evidence: error.evidence } : {}),
      remediation: 'Send the run to the server that is running with --server URL, or choose another --data-dir.',
    })
  }
}

function detached(output: Output, client: Client, run: RunView): number {
  if (output.isData) output.printData({ type: 'run', run })
  else {
    output.print(run.id)
    output.remark(`runs at ${client.address}`, `  orrery runs show ${run.id}`, `  orrery runs logs ${run.id} -f`)
  }
  return 0
}

interface Following {
  deps: CliDeps
  output: Output
  place: Place
  run: RunView
  interrupts: Interrupts
  timeoutMs: number | null
  left: AbortSignal
  /** Approve what is asked for. */
  yes: boolean
}

async function follow(f: Following): Promise<number> {
  const { client } = f.place
  const display = createRunDisplay(f.deps, f.output, f.run)
  const over = new AbortController()
  f.left.addEventListener('abort', () => {
    over.abort(f.left.reason)
    display.abandon()
    f.output.remark(leftRemark(f))
  })
  let timedOut = false
  let isOver = false
  void f.interrupts.first.then(() => (isOver ? undefined : cancel(f, display)))
  if (f.timeoutMs !== null) {
    const expire = () => {
      timedOut = true
      return cancel(f, display)
    }
    f.deps.clock.sleep(f.timeoutMs, over.signal).then(expire, () => {}) // rejects when the run ended in time
  }
  const approvals = watchApprovals(f, display, over.signal)
  const reasons = watchReasons(f.deps, {
    client,
    runId: f.run.id,
    display,
    width: f.output.width,
    isEmbedded: f.place.embedded,
    signal: over.signal,
  })
  void watchAgents({ client, run: f.run, display, signal: over.signal })
  try {
    for await (const event of client.followEvents(f.run.id, { signal: over.signal })) {
      display.event(event)
      reasons.moved()
      approvals.event(f.run.id, event)
    }
    const run = await client.getRun(f.run.id)
    const failed = run.state === 'failed' ? await findFailedSteps(client, run, SHOWN_FAILURES) : []
    if (f.left.aborted) return 0
    display.end(run, failed)
    return conclude(f, run, { failed, timedOut: timedOut && run.state === 'canceled' })
  } catch (error) {
    if (!f.left.aborted) display.abandon()
    throw error
  } finally {
    isOver = true
    over.abort()
  }
}

function watchApprovals(f: Following, display: RunDisplay, signal: AbortSignal): RunApprovals {
  const { deps, output, yes } = f
  const { client } = f.place
  const asking = { deps, output, display, client, yes, isRemote: !f.place.embedded, signal }
  return new RunApprovals(f.run, {
    clock: deps.clock,
    random: deps.random,
    client,
    signal,
    asked: (approval) => answerApproval(asking, approval),
    failed: (error) =>
      output.remark(`looking for approvals failed: ${error instanceof Error ? error.message : String(error)}`),
  })
}

const leftRemark = (f: Following): string =>
  f.place.embedded
    ? `left; ${f.run.id} ends as canceled when an orrery starts on the same data`
    : `left; ${f.run.id} is being canceled by the server: orrery runs show ${f.run.id}`

async function cancel(f: Following, display: RunDisplay): Promise<void> {
  display.canceling()
  try {
    await f.place.client.cancelRun(f.run.id)
  } catch (error) {
    // The run ended before the cancel came: then its end is what counts.
    if (error instanceof Failure && error.code === 'run.finished') return
    f.output.remark(`the run could not be canceled: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function conclude(
  f: Following,
  run: RunView,
  how: { failed: Awaited<ReturnType<typeof findFailedSteps>>; timedOut: boolean },
): number {
  const limit = f.timeoutMs
  const expired =
    how.timedOut && limit !== null
      ? failureRecord('run.timed_out', `running ${run.id}`, { evidence: { timeoutMs: limit } })
      : null
  const exit = expired
    ? FAILURES['run.timed_out'].exit
    : isRunEnded(run.state)
      ? exitOfRun(run)
      : FAILURES['run.failed'].exit
  if (f.output.isData) {
    f.output.printData({
      type: 'outcome',
      runId: run.id,
      state: run.state,
      exit,
      durationMs: tookOfRun(run),
      outputs: outputsOf(run),
      failure: expired ?? run.failure,
      failedSteps: how.failed.map(({ name, failure, worker }) => ({ name, worker, failure })),
    })
    return exit
  }
  const { width } = f.output
  f.output.print(...outcomeLines(run, how.failed, { width }))
  if (expired) throw new Failure('run.timed_out', expired.message, { evidence: expired.evidence ?? {} })
  return exit
}
