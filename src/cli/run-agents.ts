import type { Client } from '../client/client.ts'
import type { RunView } from '../contract/api-types.ts'
import { agentDoing, agentLines } from './agent-lines.ts'
import type { RunDisplay } from './run-display.ts'

const OF_AGENTS: ReadonlySet<string> = new Set(['agent', 'tool', 'route'])

/** Shows what the agents of a run are at while it is followed. Best effort: what cannot be had is not shown. A run without agents costs nothing. */
export async function watchAgents(of: {
  client: Pick<Client, 'followLogs'>
  run: Pick<RunView, 'id' | 'stepList'>
  display: Pick<RunDisplay, 'agent'>
  signal: AbortSignal
}): Promise<void> {
  const { client, run, display, signal } = of
  if (!run.stepList.some(({ kind }) => OF_AGENTS.has(kind))) return
  try {
    for await (const { stream, step, text } of client.followLogs(run.id, { follow: true, signal }))
      if (stream === 'agent') display.agent(step, agentDoing(text), agentLines(text))
  } catch {
    // The events of the run tell what matters; a log that cannot be followed is no reason to stop.
  }
}
