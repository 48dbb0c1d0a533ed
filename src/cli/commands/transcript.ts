import type { Client } from '../../client/client.ts'
import type { StepView } from '../../contract/api-types.ts'
import type { StoredEntry } from '../../domain/agents/journal.ts'
import type { CliDeps } from '../deps.ts'
import type { Output } from '../output.ts'
import { resolveRunId } from '../run-ids.ts'
import { printableLine, span } from '../terminal-text.ts'
import { transcriptLines } from '../transcript-text.ts'
import { connect, type ServerFlags } from './runs.ts'

export interface TranscriptFlags extends ServerFlags {
  full?: boolean
}

/** Steps that keep a journal. */
const JOURNALED: readonly StepView['kind'][] = ['agent', 'tool', 'route']

/** `orrery runs transcript`: what the agents of a run, or of one step, asked, were told and did. */
export async function showTranscript(
  deps: CliDeps,
  output: Output,
  target: { id: string; step: string | undefined },
  flags: TranscriptFlags,
): Promise<number> {
  const client = await connect(deps, flags)
  const runId = await resolveRunId(client, target.id)
  const steps = target.step === undefined ? await journaledSteps(client, runId) : [target.step]
  if (steps.length === 0)
    output.remark(`${runId} has no step of an agent; orrery runs logs ${runId} shows what its steps wrote`)
  let isFirst = true
  for (const step of steps) {
    const { entries, countsFrom } = await wholeJournal(client, runId, step)
    if (output.isData) {
      output.printData({ run: runId, step, countsFrom, entries })
      continue
    }
    if (steps.length > 1) output.print(...(isFirst ? [] : [[]]), [span(printableLine(step), 'bold')])
    isFirst = false
    if (entries.length === 0) output.remark(`${step} has recorded nothing`)
    output.print(...transcriptLines(entries, { full: flags.full === true, countsFrom }))
  }
  return 0
}

/** Every activation, that a worker was given at least once, of the steps that keep a journal, page by page. One that waits has begun and is not at work. */
async function journaledSteps(client: Client, runId: string): Promise<string[]> {
  const names: string[] = []
  let cursor: string | undefined
  do {
    const page = await client.listSteps(runId, cursor === undefined ? {} : { cursor })
    for (const step of page.items)
      if (JOURNALED.includes(step.kind) && step.activations === null && step.fence > 0) names.push(step.name)
    cursor = page.next ?? undefined
  } while (cursor !== undefined)
  return names
}

async function wholeJournal(
  client: Client,
  runId: string,
  step: string,
): Promise<{ entries: StoredEntry[]; countsFrom: number }> {
  const entries: StoredEntry[] = []
  for (let from = 1; ;) {
    const page = await client.showJournal(runId, step, { from })
    entries.push(...page.items)
    if (page.next === null) return { entries, countsFrom: page.countsFrom }
    from = page.next
  }
}
