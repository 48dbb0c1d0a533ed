import { z } from 'zod'

/** Output of the `executive` step: what the agent wrote. */
export const Executive = z.object({
  headline: z.string(),
  text: z.string(),
  concerns: z.array(z.string()),
})
export type Executive = z.infer<typeof Executive>
