import { isRunId } from '../base/index.ts'
import type { Client } from '../client/client.ts'
import { Failure } from '../domain/failure.ts'

const SHORT_MIN = 4
const LOOK_BACK = 200

/** A whole id as it is; a beginning or an end of one when it fits exactly one of the latest runs. */
export async function resolveRunId(client: Client, text: string): Promise<string> {
  if (isRunId(text) || text.length < SHORT_MIN || !/^[0-9a-z_]+$/.test(text)) return text
  const { items } = await client.listRuns({ limit: LOOK_BACK })
  const ids = items.map((run) => run.id)
  const fits = ids.filter((id) => id.startsWith(text) || id.startsWith(`run_${text}`) || id.endsWith(text))
  if (fits.length > 1) {
    throw new Failure('request.invalid', `finding run ${text}: ${fits.length} runs fit`, {
      evidence: { candidates: fits.slice(0, 10) },
      remediation: 'Give more characters of the id.',
    })
  }
  return fits[0] ?? text
}
