import { createHash } from 'node:crypto'
import path from 'node:path'
import { formatDuration } from '../../base/index.ts'
import type { Client } from '../../client/client.ts'
import type { ArtifactView } from '../../contract/api-types.ts'
import { Failure } from '../../domain/failure.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { resolveRunId } from '../run-ids.ts'
import { printableLine } from '../terminal-text.ts'
import { usageFailure } from '../usage.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface GetArtifactFlags extends ServerFlags {
  output?: string
  force?: boolean
}

const PAGE = 500
const UNITS = ['B', 'KiB', 'MiB', 'GiB']

/** `orrery artifacts list RUN`. */
export async function listArtifacts(deps: CliDeps, output: Output, id: string, flags: ServerFlags): Promise<number> {
  const client = await connect(deps, flags)
  const runId = await resolveRunId(client, id)
  const artifacts = await allArtifacts(client, runId)
  if (output.isData) {
    output.printData({ artifacts })
    return 0
  }
  if (artifacts.length === 0) {
    output.remark(`No step of ${runId} left files, or their time is over.`)
    return 0
  }
  const columns = [
    { title: 'STEP' },
    { title: 'FILE' },
    { title: 'SIZE', align: 'right' as const },
    { title: 'SHA-256' },
    { title: 'KEPT FOR', align: 'right' as const },
    { title: 'CREATED', wide: true },
  ]
  const now = deps.clock.now()
  const rows = artifacts.map((artifact) => [
    { text: printableLine(artifact.step) },
    { text: printableLine(artifact.name) },
    { text: sizeText(artifact.bytes) },
    { text: output.format === 'wide' ? artifact.sha256 : artifact.sha256.slice(0, 12) },
    { text: formatDuration(Math.max(0, Date.parse(artifact.expiresAt) - now)) },
    { text: artifact.createdAt },
  ])
  output.printTable(columns, rows)
  return 0
}

/** `orrery artifacts get RUN STEP FILE`: what arrives is held against its checksum before it gets its name. */
export async function getArtifact(
  deps: CliDeps,
  output: Output,
  of: { run: string; step: string; name: string },
  flags: GetArtifactFlags,
): Promise<number> {
  const client = await connect(deps, flags)
  const runId = await resolveRunId(client, of.run)
  const artifact = (await allArtifacts(client, runId)).find((a) => a.step === of.step && a.name === of.name)
  if (!artifact) throw new Failure('artifact.not_found', `looking for ${of.name} of step ${of.step} of run ${runId}`)
  const hash = createHash('sha256')
  const content = hashed(await client.openArtifact(runId, { step: of.step, name: of.name }), hash)
  const check = (): void => {
    const sha256 = hash.digest('hex')
    if (sha256 === artifact.sha256) return
    throw new Failure('artifact.checksum_mismatch', `fetching ${of.name} of step ${of.step} of run ${runId}`, {
      evidence: { expected: artifact.sha256, got: sha256 },
    })
  }
  if (flags.output === '-') {
    for await (const chunk of content) deps.stdout.write(chunk)
    check()
    return 0
  }
  const target = path.resolve(deps.cwd, flags.output ?? path.posix.basename(of.name))
  if (!(await deps.writeFile(target, content, { force: flags.force === true, check }))) {
    throw usageFailure(`${target} is there already`, 'Name another file with -o, or write over it with --force.')
  }
  if (output.isData) output.printData({ ...artifact, file: target })
  else output.print(`${printableLine(target)}  ${sizeText(artifact.bytes)}`)
  return 0
}

async function allArtifacts(client: Client, runId: string): Promise<ArtifactView[]> {
  const all: ArtifactView[] = []
  let cursor: string | undefined
  do {
    const page = await client.listArtifacts(runId, { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) })
    all.push(...page.items)
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return all
}

async function* hashed(content: AsyncIterable<Uint8Array>, hash: ReturnType<typeof createHash>) {
  for await (const chunk of content) {
    hash.update(chunk)
    yield chunk
  }
}

function sizeText(bytes: number): string {
  let size = bytes
  let unit = 0
  for (; size >= 1024 && unit < UNITS.length - 1; unit++) size /= 1024
  return `${unit === 0 ? size : size.toFixed(1)} ${UNITS[unit]}`
}
