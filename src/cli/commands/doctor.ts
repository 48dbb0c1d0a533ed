import path from 'node:path'
import { type Json, nearest } from '../../base/index.ts'
import type { DoctorRow } from '../../contract/api-types.ts'
import {
  checkClock,
  checkConfig,
  checkVersions,
  diagnoseHost,
  exitOf,
  inOrder,
  pass,
  rowOfFailure,
} from '../../diagnose/index.ts'
import { Failure, type FailureRecord } from '../../domain/failure.ts'
import type { ConfigFacts } from '../../domain/installation-facts.ts'
import { type Config, loadConfig } from '../config.ts'
import { SETTING_VARIABLES } from '../settings.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { doctorLines } from '../doctor-text.ts'
import { VARIABLES } from '../variables.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface DoctorFlags extends ServerFlags {
  config?: string
  store?: string
  postgresDsn?: string
  dataDir?: string
  host?: string
  port?: string
}

const PREFIX = 'ORRERY_'
/** Answers of a server that will not, or cannot, tell: it is there all the same. */
const SHY = new Set(['client.unauthorized', 'client.forbidden', 'request.not_found'])

/** `orrery doctor`: rows of this place and of the server, or of this host alone when the server does not answer. */
export async function runDoctor(deps: CliDeps, output: Output, flags: DoctorFlags): Promise<number> {
  const { facts, config } = await readConfigFacts(deps, flags)
  const rows = checkConfig(facts)
  const server = await askServer(deps, flags)
  rows.push(...server.rows)
  if (!server.told && (await isLocal(deps, flags))) rows.push(...(await examineHere(deps, config)))
  const ordered = inOrder(rows)
  const exit = exitOf(ordered)
  if (output.isData) output.printData({ exit, rows: ordered })
  else output.print(...doctorLines(ordered, { width: output.width }))
  return exit
}

/** Where the settings of this place come from, and what is wrong with them: told as rows, never thrown. */
async function readConfigFacts(
  deps: CliDeps,
  flags: DoctorFlags,
): Promise<{ facts: ConfigFacts; config: Config | null }> {
  const at = flags.config ?? (deps.env['ORRERY_CONFIG'] || undefined)
  const full = at === undefined ? null : path.resolve(deps.cwd, at)
  const { store, postgresDsn, dataDir, host, port } = flags
  const given = { store, postgresDsn, dataDir, host, port }
  const settings = Object.entries(given).filter(([, value]) => value !== undefined)
  const unknownVariables = misspelt(Object.keys(deps.env))
  const refused = (problems: ConfigFacts['problems']) => ({
    facts: { file: full, given: {}, problems, unknownVariables },
    config: null,
  })
  let text: string | null = null
  try {
    text = full === null ? null : await deps.readFile(full)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    return refused([{ code: 'file.unreadable', path: full ?? '', message }])
  }
  const outcome = loadConfig({
    flags: Object.fromEntries(settings) as Record<string, Json>, // texts of flags
    env: deps.env,
    file: full === null || text === null ? null : { path: full, text },
    cwd: deps.cwd,
  })
  if (outcome.kind === 'refused') return refused(outcome.problems)
  const named = Object.entries(outcome.sources).filter(([, from]) => from !== 'default')
  return {
    facts: { file: full, given: Object.fromEntries(named), problems: [], unknownVariables },
    config: outcome.config,
  }
}

/** Variables that are nearly ours. Others that begin alike may belong to somebody else's scripts. */
function misspelt(names: readonly string[]): ConfigFacts['unknownVariables'] {
  const known = [...SETTING_VARIABLES, ...Object.keys(VARIABLES)]
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => name.slice(PREFIX.length))
  return names
    .filter((name) => name.startsWith(PREFIX) && !known.includes(name.slice(PREFIX.length)))
    .flatMap((name) => {
      const near = nearest(name.slice(PREFIX.length), known)
      return near === null ? [] : [{ name, nearest: `${PREFIX}${near}` }]
    })
}

/** `told`: the server answered with rows of its own. */
async function askServer(deps: CliDeps, flags: DoctorFlags): Promise<{ told: boolean; rows: DoctorRow[] }> {
  let subject = 'its address'
  try {
    const { address, addressFrom } = await findServer(deps, flags)
    subject = `${address} (${addressFrom})`
    const client = await connect(deps, flags)
    const { version } = await client.getHealth()
    const cli = checkVersions({
      cli: deps.version,
      server: typeof version === 'string' ? version : '',
      servers: [],
      workers: [],
    })
    const here = pass('server', subject, {
      message: `answers (${String(version)})`,
      evidence: { address, addressFrom },
    })
    try {
      const sentAt = deps.clock.now()
      const { rows, now } = await client.getDoctor()
      const skewMs = (sentAt + deps.clock.now()) / 2 - Date.parse(now)
      // When all is of one version, the server's own row says so.
      const odd = cli.filter((row) => row.status !== 'pass')
      return { told: true, rows: [here, checkClock({ between: 'CLI and server', skewMs }), ...odd, ...rows] }
    } catch (error) {
      if (!(error instanceof Failure) || error.code === 'internal.bug') throw error
      const status = SHY.has(error.code) ? 'warn' : 'fail'
      return { told: false, rows: [here, ...cli, rowOfFailure(status, 'server', 'its own checks', error.toRecord())] }
    }
  } catch (error) {
    if (!(error instanceof Failure) || error.code === 'internal.bug') throw error
    return { told: false, rows: [unreached(subject, error.toRecord())] }
  }
}

const unreached = (subject: string, failure: FailureRecord): DoctorRow =>
  rowOfFailure('fail', 'server', subject, failure)

const findServer = (deps: CliDeps, flags: DoctorFlags) =>
  deps.findServer({ server: flags.server, token: flags.token, context: flags.context, ca: flags.ca })

/** Whether the server that is meant would run on this host. One whose address cannot be told may. */
async function isLocal(deps: CliDeps, flags: DoctorFlags): Promise<boolean> {
  const found = await findServer(deps, flags).catch((error: unknown) => {
    if (error instanceof Failure) return null // a row tells of it already
    throw error
  })
  if (found === null) return true
  const url = URL.parse(found.address)
  return url !== null && /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(url.hostname)
}

async function examineHere(deps: CliDeps, config: Config | null): Promise<DoctorRow[]> {
  const workspace = deps.env['ORRERY_WORKSPACE'] || null
  const host = await deps.examineHost({
    dataDir: config?.dataDir ?? null,
    workspace: workspace === null ? null : path.resolve(deps.cwd, workspace),
    port: config ? { host: config.host, port: config.port } : null,
    store: config?.store ?? null,
    keys: { file: config?.secrets.keyFile ?? null, isOwn: config?.store.kind !== 'postgres' },
  })
  return diagnoseHost(host)
}
